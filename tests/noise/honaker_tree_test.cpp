// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/noise/honaker_tree.hpp"

#include "support/catch.hpp"
#include "support/strategies.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

using namespace dpopt;
using namespace dpopt::test;

namespace {

matrix product(const matrix& a, const matrix& b, bool transposed) {
  const std::size_t columns = transposed ? b.size() : b[0].size();
  matrix out(a.size(), std::vector<double>(columns));
  for (std::size_t t = 0; t < a.size(); ++t)
    for (std::size_t s = 0; s < columns; ++s)
      for (std::size_t k = 0; k < a[t].size(); ++k) out[t][s] += a[t][k] * (transposed ? b[s][k] : b[k][s]);
  return out;
}

matrix ones_below(std::size_t n) {
  matrix out(n, std::vector<double>(n));
  for (std::size_t t = 0; t < n; ++t) std::fill_n(out[t].begin(), t + 1, 1.0);
  return out;
}

/// Noise of each prefix sum over all nodes of the binary tree (node `end - 1` of level l stands at l n + end - 1), by
/// the weights of Kairouz et al. 2021: a node j levels below the root of a full subtree of height h gets
/// 2^-j / (2^0 + ... + 2^-h).
matrix estimates(std::size_t n, std::size_t restart_every) {
  constexpr std::size_t levels = 6;
  matrix out(n, std::vector<double>(levels * n));
  for (std::size_t t = 0; t < n; ++t)
    for (std::size_t start = 0; start <= t;) { // tree by tree, from the left the largest subtree that ends in time
      const std::size_t of_tree = restart_every == 0 ? n : restart_every;
      const std::size_t origin = start / of_tree * of_tree;
      const std::size_t left = std::min(origin + of_tree, t + 1) - start;
      std::size_t h = 0;
      while ((std::size_t{2} << h) <= left) ++h;
      for (std::size_t j = 0; j <= h; ++j)
        for (std::size_t i = 0; i < std::size_t{1} << j; ++i) {
          const std::size_t end = start + (i + 1) * (std::size_t{1} << (h - j));
          out[t][(h - j) * n + end - 1] =
              std::ldexp(1.0, -static_cast<int>(j)) / (2 - std::ldexp(1.0, -static_cast<int>(h)));
        }
      start += std::size_t{1} << h;
    }
  return out;
}

TEST_CASE("prefix sums have the joint noise of Honaker's estimates, before and after restarts") {
  for (const std::size_t every : {0u, 1u, 3u, 4u, 7u, 8u, 30u}) {
    INFO("restart every " << every);
    const matrix sums = product(ones_below(20), realized_inverse(honaker_tree(every), run_plan::once(20)), false);
    const matrix expected = estimates(20, every);
    CHECK(largest_difference(product(sums, sums, true), product(expected, expected, true)) < 1e-13);
  }
}

TEST_CASE("the norm of a row is that of the row that is added") {
  const run_plan plan = run_plan::once(33);
  honaker_tree<> strategy;
  strategy.validate(plan);
  const matrix rows = realized_inverse(strategy, plan);
  for (const auto& row : rows) {
    strategy.start_row(0);
    double squares = 0;
    for (const double x : row) squares += x * x;
    CHECK(strategy.row_norm() == Approx(std::sqrt(squares)).epsilon(1e-13));
  }
}

TEST_CASE("the sensitivity of honaker_tree is exact for one participation and an upper bound otherwise") {
  for (const std::size_t every : {0u, 1u, 3u, 4u, 6u})
    for (const run_plan& plan : small_plans(10)) {
      INFO(plan.describe() << ", restart every " << every);
      honaker_tree<> strategy(every);
      strategy.validate(plan);
      const matrix c = inverse_of(realized_inverse(strategy, plan));
      for (const auto& row : c)
        for (const double x : row) CHECK(x >= -1e-13); // hence trying +1 and -1 finds the sensitivity
      const double tried = tried_sensitivity(c, plan);
      const double claimed = strategy.sensitivity(plan);
      CHECK(claimed >= tried * (1 - 1e-13));
      CHECK(claimed <= tried * 1.7);
      if (plan.most_participations() == 1) CHECK(claimed == Approx(tried).epsilon(1e-12));
      honaker_tree<float> rounded(every); // its weights are floats, each within 2^-24
      rounded.validate(plan);
      CHECK(rounded.sensitivity(plan) >= claimed * (1 + 0x1p-23));
    }
}

/// Root of the mean variance of 1000 prefix sums at sensitivity 1.
template <class Strategy>
double error_of(Strategy strategy) {
  const run_plan plan = run_plan::once(1000);
  strategy.validate(plan);
  if constexpr (StoringStrategy<Strategy>) strategy.bind(0);
  double total = 0;
  for (std::uint64_t c = 1; c <= 1000; ++c)
    for (std::uint64_t l = 0; l < 10; ++l)
      if ((c >> l) % 2 == 1) total += StoringStrategy<Strategy> ? 1 / (2 - std::ldexp(1.0, -static_cast<int>(l))) : 1.0;
  return strategy.sensitivity(plan) * std::sqrt(total / 1000);
}

TEST_CASE("the error is below that of the plain tree, as published") {
  CHECK(error_of(honaker_tree<>()) < 0.76 * error_of(tree()));
}

TEST_CASE("a copy of the state continues alike") {
  const run_plan plan = run_plan::once(12);
  const auto make = [&] {
    correlated noise(impulse_noise{2}, honaker_tree(), plan);
    noise.validate();
    noise.bind(std::array<isize, 1>{3}, 0);
    return noise;
  };
  auto first = make();
  for (std::uint64_t t = 0; t < 5; ++t) first.start_row(t);
  auto second = make();
  std::vector<std::vector<std::byte>> pieces;
  first.visit_state([&](std::span<std::byte> bytes) { pieces.emplace_back(bytes.begin(), bytes.end()); });
  std::size_t k = 0;
  second.visit_state([&](std::span<std::byte> bytes) { std::ranges::copy(pieces.at(k++), bytes.begin()); });
  for (std::uint64_t t = 5; t < 12; ++t) {
    std::array<double, 3> a{};
    std::array<double, 3> b{};
    first.start_row(t);
    second.start_row(t);
    first.add({.step = t}, 1.0, a.data(), 3);
    second.add({.step = t}, 1.0, b.data(), 3);
    CHECK(a == b);
    if (t == 7) CHECK(a[0] != 0); // row 7 takes back what is left of row 2
  }
}

TEST_CASE("the description of honaker_tree tells restarts apart") {
  CHECK(honaker_tree().describe() != honaker_tree(4).describe());
  CHECK(honaker_tree(5).describe() != honaker_tree(4).describe());
}

} // namespace
