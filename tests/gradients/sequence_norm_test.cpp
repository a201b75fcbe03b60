// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/gradients/sequence_norm.hpp"

#include "dpopt/gradients/convolution_weight.hpp"
#include "dpopt/gradients/linear_sequence.hpp"
#include "dpopt/gradients/linear_weight.hpp"
#include "dpopt/gradients/tied_embedding.hpp"
#include "support/random_numbers.hpp"
#include "support/source_conformance.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

using namespace dpopt;
using namespace dpopt::test;

namespace {

/// Bytes of scratch memory that both questions need.
template <class S>
isize need_of(const S& s, double factor = 0.5) {
  workspace w;
  std::vector<double> squares(static_cast<std::size_t>(s.batch()), 0.0), factors(squares.size(), factor);
  std::vector<float> sum(static_cast<std::size_t>(s.size()));
  s.add_squared_norms({0, s.batch()}, squares.data(), w);
  s.add_weighted_sum({0, s.batch()}, factors.data(), sum.data(), w);
  return w.bytes();
}

/// The second of two rows becomes the opposite of the first.
void cancel(std::vector<float>& rows) {
  for (std::size_t k = 0; k < rows.size() / 2; ++k) rows[rows.size() / 2 + k] = -rows[k];
}
void repeat(std::vector<float>& rows) {
  for (std::size_t k = 0; k < rows.size() / 2; ++k) rows[rows.size() / 2 + k] = rows[k];
}

} // namespace

TEST_CASE("sequence norms: scratch memory does not tell whether positions cancel, or how many tokens are padding") {
  for (const isize outputs : {80, 300}) { // narrower and wider than the inputs
    REQUIRE(detail::gram_is_cheaper(2, 200, outputs));
    std::vector<float> a = random_numbers<float>(2 * 200, 1), e = random_numbers<float>(2 * outputs, 2);
    const linear_sequence<float> s{a.data(), e.data(), 1, 2, 200, outputs};
    const isize need = need_of(s);
    repeat(a), cancel(e);
    CHECK(need_of(s) == need);
  }
  {
    const convolution_geometry g{
        .input_channels = 64, .output_channels = 96, .input_size = {2, 1}, .kernel_size = {1, 1}};
    std::vector<float> a(2 * 64), e(2 * 96);
    const auto positions_of = [](std::vector<float>& to, float second) { // channels first
      const auto x = random_numbers<float>(static_cast<isize>(to.size()), 3);
      for (std::size_t k = 0; k < to.size(); k += 2) to[k] = x[k], to[k + 1] = second == 0 ? x[k + 1] : second * x[k];
    };
    positions_of(a, 0), positions_of(e, 0);
    const convolution_weight<float> s(a.data(), e.data(), 1, g);
    const isize need = need_of(s);
    positions_of(a, 1), positions_of(e, -1);
    CHECK(need_of(s) == need);
  }
  std::vector<std::int32_t> tokens(40, -1);
  const auto lookups = random_numbers<float>(40 * 64, 1), h = random_numbers<float>(4 * 64, 2),
             logits = random_numbers<float>(4 * 200, 3);
  const tied_embedding<float> s{tokens.data(), lookups.data(), h.data(), logits.data(), 1, 40, 4, 200, 64, -1};
  const isize need = need_of(s);
  for (std::size_t k = 0; k < tokens.size(); ++k) tokens[k] = static_cast<std::int32_t>(k);
  CHECK(need_of(s) == need);
}

namespace {

/// A sample of huge numbers adds no more than a small bound.
template <class S>
void keeps_a_small_bound(const S& s) {
  const double norm = std::sqrt(squared_norms_of(s)[0]);
  for (const double bound : {1e-6, 1e-3, 1.0}) {
    const double factor = std::min(1.0, bound / (norm + 1e-6));
    CHECK(norm_of(sum_of<float>(s, {factor})) <= static_cast<long double>(bound));
    CHECK(norm_of(sum_of<double>(s, {factor})) <= static_cast<long double>(bound));
  }
}

std::vector<float> huge_numbers(isize n, int seed) {
  std::vector<float> x = random_numbers<float>(n, seed);
  for (float& v : x) v *= 3e38F;
  return x;
}

} // namespace

TEST_CASE("sequences: positions that cancel keep the bound where a factor takes their numbers out of float's range") {
  for (int seed = 0; seed < 10; ++seed)
    for (const isize outputs : {5, 13}) { // either half is the one that is scaled
      std::vector<float> a = huge_numbers(2 * 9, seed), e = huge_numbers(2 * outputs, seed + 100);
      for (std::size_t k = 0; k < 9; ++k) a[9 + k] = a[k];
      for (std::size_t k = 0; k < static_cast<std::size_t>(outputs); ++k)
        e[static_cast<std::size_t>(outputs) + k] = e[k] * -0.9F;
      keeps_a_small_bound(linear_sequence<float>{a.data(), e.data(), 1, 2, 9, outputs});
    }
  // Beyond float's range upwards: the factor of a tiny norm, of numbers that are huge and tiny.
  const std::vector<float> a = {1e-38F, 2e-38F}, e = {3e38F, -1.5e38F};
  const linear_sequence<float> s{a.data(), e.data(), 1, 2, 1, 1};
  CHECK(norm_of(sum_of<float>(s, {8.0})) <= 8 * std::sqrt(squared_norms_of(s)[0]));
}

TEST_CASE(
    "convolutions: positions that cancel keep the bound where a factor takes their numbers out of float's range") {
  for (const bool channels_last : {false, true})
    for (int seed = 0; seed < 10; ++seed) {
      const convolution_geometry g{
          .input_channels = 6, .output_channels = 6, .input_size = {2}, .kernel_size = {1}, .groups = 1 + seed % 2};
      std::vector<float> a = huge_numbers(12, seed), e = huge_numbers(12, seed + 100);
      const std::size_t channel = channels_last ? 1 : 2, next = channels_last ? 6 : 1;
      for (std::size_t c = 0; c < 6; ++c) {
        a[c * channel + next] = a[c * channel];
        e[c * channel + next] = e[c * channel] * -0.9F;
      }
      convolution_weight<float> s(a.data(), e.data(), 1, g);
      s.channels_last = channels_last;
      keeps_a_small_bound(s);
    }
}

TEST_CASE("tied embeddings: lookups that cancel huge logits keep the bound") {
  for (int seed = 0; seed < 10; ++seed) {
    const std::int32_t token = 2;
    const std::vector<float> h = huge_numbers(9, seed);
    std::vector<float> lookups = h, logits(15, 0.0F);
    logits[2] = 1;
    for (float& x : lookups) x *= -0.9F;
    keeps_a_small_bound(tied_embedding<float>{&token, lookups.data(), h.data(), logits.data(), 1, 1, 1, 15, 9});
  }
}

TEST_CASE("sequence norms: scratch memory does not tell whether any sample was kept") {
  const auto a = random_numbers<float>(3 * 40, 1), e = random_numbers<float>(3 * 30, 2);
  const linear_weight<float> one{a.data(), e.data(), 3, 40, 30};
  CHECK(need_of(one, 0) == need_of(one));
  const linear_sequence<float> some{a.data(), e.data(), 1, 3, 40, 30};
  CHECK(need_of(some, 0) == need_of(some));
}

TEST_CASE("sequence norms: both ways agree, whichever factor is the wider, over whole and broken tiles") {
  struct shape {
    isize positions, inputs, outputs;
  };
  for (const auto& [positions, inputs, outputs] :
       {shape{3, 70, 200}, {3, 200, 70}, {2, 65, 64}, {5, 1, 300}, {5, 300, 1}, {40, 130, 130}}) {
    const auto a = random_numbers<double>(positions * inputs, 1), e = random_numbers<double>(positions * outputs, 2);
    const linear_sequence<double> s{a.data(), e.data(), 1, positions, inputs, outputs};
    workspace w;
    long double squares = 0;
    for (isize o = 0; o < outputs; ++o)
      for (isize k = 0; k < inputs; ++k) {
        long double g = 0;
        for (isize t = 0; t < positions; ++t)
          g += static_cast<long double>(e[static_cast<std::size_t>(t * outputs + o)]) *
               static_cast<long double>(a[static_cast<std::size_t>(t * inputs + k)]);
        squares += g * g;
      }
    for (const bool by_gram : {true, false}) {
      const double ours = s.squared_norm_of(0, by_gram, w);
      CHECK(ours >= squares);
      CHECK(ours <= squares * (1 + 1e-6L));
    }
  }
}
