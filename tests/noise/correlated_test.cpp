// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// What holds for every strategy. The matrices themselves are in the strategies' own tests.
#include "dpopt/noise/correlated.hpp"

#include "dpopt/noise/banded.hpp"
#include "dpopt/noise/banded_inverse.hpp"
#include "dpopt/noise/blt.hpp"
#include "dpopt/noise/counter_gaussian.hpp"
#include "dpopt/noise/sequential_gaussian.hpp"
#include "dpopt/noise/tree.hpp"
#include "dpopt/sodium/secure_gaussian.hpp"
#include "support/catch.hpp"
#include "support/statistics.hpp"
#include "support/strategies.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <random>
#include <span>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

using namespace dpopt;
using namespace dpopt::test;

namespace {

// What does not compile.
static_assert(CorrelatedNoise<correlated<counter_gaussian, tree>> &&
              CorrelatedNoise<correlated<secure_gaussian, banded<float>>>);
static_assert(!CorrelatedNoise<counter_gaussian>);
static_assert(SharesSecret<correlated<secure_gaussian, tree>> && AddressableNoise<correlated<secure_gaussian, tree>>);
static_assert(NoiseMechanism<correlated<counter_gaussian, banded<float>>, float>);
static_assert(
    !NoiseMechanism<correlated<counter_gaussian, banded<float>>, double>); // too coarse for the sum's last bits
static_assert(NoiseMechanism<correlated<counter_gaussian, banded<double>>, float>);
static_assert(NoiseMechanism<correlated<counter_gaussian, banded_inverse>, double>);
static_assert(!NoiseMechanism<correlated<counter_gaussian, banded_inverse>, std::int64_t>);

constexpr std::uint64_t rows = 12;
constexpr std::array<isize, 3> sizes{1500, 1, 7}; // one is longer than a tile
constexpr isize side_scalars = 3;

struct banded_example {
  static auto strategy() { return banded(square_root_coefficients(4)); }
};
struct scaled_banded_example {
  static auto strategy() { return banded(square_root_coefficients(4), true); }
};
struct inverse_example {
  static auto strategy() { return banded_inverse(inverse_square_root_coefficients(4)); }
};
struct stored_inverse_example {
  static auto strategy() { return stored_banded_inverse(inverse_square_root_coefficients(4)); }
};
struct blt_example {
  static auto strategy() { return blt(blt_parameters{{0.9, 0.5}, {0.2, 0.3}}); }
};
struct tree_example {
  static auto strategy() { return tree(5); }
};

using all_strategies = std::tuple<banded_example, scaled_banded_example, inverse_example, stored_inverse_example,
                                  blt_example, tree_example>;

template <class Strategy>
auto ready(Strategy strategy, std::uint64_t seed = 1, const run_plan& plan = run_plan::once(rows)) {
  correlated noise(counter_gaussian{.noise_multiplier = 1.5, .seed = seed}, std::move(strategy), plan);
  noise.validate();
  noise.bind(sizes, side_scalars);
  noise.draw_secret();
  return noise;
}

counter_gaussian underneath(std::uint64_t seed = 1) {
  counter_gaussian out{.noise_multiplier = 1.5, .seed = seed};
  out.draw_secret();
  return out;
}

template <class V = double, class Noise>
std::vector<V> draw(Noise& noise, const address& where, isize n, double std_in_units = 1) {
  std::vector<V> out(static_cast<std::size_t>(n));
  noise.add(where, std_in_units, out.data(), n);
  return out;
}

/// Everything that a row adds: the parameters and the side scalars.
template <class V = double, class Noise>
std::vector<V> whole_row(Noise& noise, std::uint64_t step) {
  std::vector<V> out;
  for (std::uint32_t p = 0; p < sizes.size(); ++p) {
    const auto part = draw<V>(noise, {.step = step, .parameter = p}, sizes[p]);
    out.insert(out.end(), part.begin(), part.end());
  }
  const auto side = draw<V>(noise, {.what = purpose::side_scalars, .step = step}, side_scalars);
  out.insert(out.end(), side.begin(), side.end());
  return out;
}

TEMPLATE_LIST_TEST_CASE(
    "a row is C^-1 times the base's numbers at the steps of the rows, for parameters and side scalars", "",
    all_strategies) {
  const matrix inverse = realized_inverse(TestType::strategy(), run_plan::once(rows));
  auto noise = ready(TestType::strategy());
  counter_gaussian base = underneath();
  std::vector<std::uint64_t> steps; // with gaps, as failed steps leave them
  for (std::uint64_t t = 0; t < rows; ++t) steps.push_back(t + t * t / 4);
  for (std::size_t t = 0; t < rows; ++t) {
    noise.start_row(steps[t]);
    const auto real = whole_row(noise, steps[t]);
    std::vector<double> expected(real.size());
    for (std::size_t s = 0; s <= t; ++s) {
      const auto z = whole_row(base, steps[s]);
      for (std::size_t i = 0; i < z.size(); ++i) expected[i] += inverse[t][s] * z[i];
    }
    for (std::size_t i = 0; i < real.size(); ++i) REQUIRE(real[i] == Approx(expected[i]).margin(1e-13));
    double squares = 0;
    for (const double w : inverse[t]) squares += w * w;
    CHECK(noise.row_norm() == Approx(std::sqrt(squares)).epsilon(1e-12));
  }
}

TEMPLATE_LIST_TEST_CASE("a row's numbers depend neither on the split into calls nor on how often they were asked for",
                        "", all_strategies) {
  auto once = ready(TestType::strategy());
  auto pieces = ready(TestType::strategy());
  for (std::uint64_t t = 0; t < rows; ++t) {
    once.start_row(t);
    pieces.start_row(t);
    const auto whole = draw(once, {.step = t}, sizes[0]);
    std::vector<double> parts(whole.size());
    draw(pieces, {.step = t, .parameter = 2}, 7); // another parameter first
    isize done = 0;
    for (isize length = 1; done < sizes[0]; length = length * 3 % 257) {
      const isize now = std::min(length, sizes[0] - done);
      const address where{.step = t, .element = static_cast<std::uint64_t>(done)};
      static_cast<void>(draw(pieces, where, now)); // and again: a row moves nothing
      pieces.add(where, 1.0, parts.data() + done, now);
      done += now;
    }
    REQUIRE(parts == whole);
  }
}

TEMPLATE_LIST_TEST_CASE("a changed std scales the open row and no part of the past", "", all_strategies) {
  auto steady = ready(TestType::strategy());
  auto changing = ready(TestType::strategy());
  for (std::uint64_t t = 0; t < rows; ++t) {
    steady.start_row(t);
    changing.start_row(t);
    const double std_in_units = std::ldexp(1.0, static_cast<int>(t * 5 % 7) - 3); // exact factors
    auto expected = draw(steady, {.step = t}, sizes[0]);
    for (double& x : expected) x *= std_in_units;
    const auto real = draw(changing, {.step = t}, sizes[0], std_in_units);
    for (std::size_t i = 0; i < real.size(); ++i) REQUIRE(real[i] == Approx(expected[i]).margin(1e-14));
  }
}

// 20000 numbers a row, z-scores of all 78 second moments of a strategy: significance 5.7e-7 each (|z| < 5).
TEMPLATE_LIST_TEST_CASE("the covariance of the rows is C^-1 C^-T", "", all_strategies) {
  constexpr isize count = 20000;
  correlated noise(counter_gaussian{.noise_multiplier = 1, .seed = 11}, TestType::strategy(), run_plan::once(rows));
  noise.validate();
  noise.bind(std::array<isize, 1>{count}, 0);
  noise.draw_secret();
  const matrix inverse = realized_inverse(TestType::strategy(), run_plan::once(rows));
  std::vector<std::vector<double>> x;
  for (std::uint64_t t = 0; t < rows; ++t) {
    noise.start_row(t);
    x.push_back(draw(noise, {.step = t}, count));
  }
  const auto expected = [&](std::size_t a, std::size_t b) {
    double sum = 0;
    for (std::size_t s = 0; s < rows; ++s) sum += inverse[a][s] * inverse[b][s];
    return sum;
  };
  for (std::size_t a = 0; a < rows; ++a)
    for (std::size_t b = 0; b <= a; ++b) {
      double sum = 0;
      for (std::size_t i = 0; i < x[a].size(); ++i) sum += x[a][i] * x[b][i];
      const double variance = expected(a, a) * expected(b, b) + expected(a, b) * expected(a, b); // of a product
      INFO("rows " << a << " and " << b);
      CHECK(std::abs(sum / static_cast<double>(count) - expected(a, b)) /
                std::sqrt(variance / static_cast<double>(count)) <
            unlikely);
    }
}

TEMPLATE_TEST_CASE("drawn again or stored, the noise is the same, bit for bit", "", float, double) {
  auto regenerated = ready(banded_inverse(inverse_square_root_coefficients(5)));
  auto stored = ready(stored_banded_inverse<TestType>(inverse_square_root_coefficients(5)));
  for (std::uint64_t t = 0; t < rows; ++t) {
    regenerated.start_row(3 * t);
    stored.start_row(3 * t);
    REQUIRE(whole_row<TestType>(regenerated, 3 * t) == whole_row<TestType>(stored, 3 * t));
  }
}

TEST_CASE("numbers in double fit sums in float: the noise is rounded once") {
  auto narrow = ready(banded(square_root_coefficients(3)));
  auto wide = ready(banded(square_root_coefficients(3)));
  for (std::uint64_t t = 0; t < rows; ++t) {
    narrow.start_row(t);
    wide.start_row(t);
    const auto x = whole_row<float>(narrow, t);
    const auto y = whole_row<double>(wide, t);
    for (std::size_t i = 0; i < x.size(); ++i) REQUIRE(x[i] == static_cast<float>(y[i]));
  }
}

TEMPLATE_LIST_TEST_CASE("more rows than declared are refused, and the last one stays", "", all_strategies) {
  auto noise = ready(TestType::strategy());
  for (std::uint64_t t = 0; t < rows; ++t) {
    noise.require_row(t);
    noise.start_row(t);
  }
  const auto last = whole_row(noise, rows - 1);
  CHECK(noise.rows() == rows);
  CHECK_THROWS_WITH(noise.require_row(rows), contains_text("declared with 12 releases and all were made"));
  CHECK_THROWS_AS(noise.start_row(rows), state_error);
  CHECK(noise.rows() == rows);
  CHECK(whole_row(noise, rows - 1) == last);
}

TEMPLATE_LIST_TEST_CASE("asking whether a row is left changes nothing, and a number of the stream serves one row", "",
                        all_strategies) {
  auto asked = ready(TestType::strategy());
  auto quiet = ready(TestType::strategy());
  for (std::uint64_t t = 0; t < rows; ++t) {
    asked.require_row(2 * t);
    asked.require_row(2 * t);
    asked.start_row(2 * t);
    quiet.start_row(2 * t);
    CHECK_THROWS_AS(asked.start_row(2 * t), state_error);
    if (t > 0 && t + 1 < rows) CHECK_THROWS_WITH(asked.require_row(2 * t - 1), contains_text("does not come after"));
    REQUIRE(whole_row(asked, 2 * t) == whole_row(quiet, 2 * t));
  }
}

TEMPLATE_LIST_TEST_CASE("noise of another step, lane, purpose or place than bound is refused, and x unchanged", "",
                        all_strategies) {
  auto noise = ready(TestType::strategy());
  std::vector<double> x(2000, 3.0);
  CHECK_THROWS_AS(noise.add({}, 1, x.data(), 1), state_error); // no row is open
  noise.start_row(4);
  noise.start_row(6);
  CHECK_THROWS_AS(noise.add({.step = 4}, 1, x.data(), 1), state_error);
  CHECK_THROWS_AS(noise.add({.step = 5}, 1, x.data(), 1), state_error);
  CHECK_THROWS_AS(noise.add({.lane = 1, .step = 6}, 1, x.data(), 1), invalid_argument);
  CHECK_THROWS_AS(noise.add({.what = purpose::sampling, .step = 6}, 1, x.data(), 1), invalid_argument);
  CHECK_THROWS_AS(noise.add({.step = 6, .parameter = 3}, 1, x.data(), 1), invalid_argument);
  CHECK_THROWS_AS(noise.add({.step = 6}, 1, x.data(), 1501), invalid_argument);
  CHECK_THROWS_AS(noise.add({.step = 6, .element = 1500}, 1, x.data(), 1), invalid_argument);
  CHECK_THROWS_AS(noise.add({.what = purpose::side_scalars, .step = 6}, 1, x.data(), 4), invalid_argument);
  CHECK(x == std::vector<double>(2000, 3.0));
  noise.add({.step = 6}, 1, x.data(), 0);
  CHECK(x == std::vector<double>(2000, 3.0));
}

TEST_CASE("an exhausted stream is refused before a row is taken") {
  auto noise = ready(tree());
  CHECK_THROWS_AS(noise.require_row(std::uint64_t{1} << 40), randomness_error);
  CHECK_THROWS_AS(noise.start_row(std::uint64_t{1} << 40), randomness_error);
  CHECK(noise.rows() == 0);
  CHECK_NOTHROW(noise.start_row((std::uint64_t{1} << 40) - 1));
}

/// Fails at one element, which no probe of the last one sees.
struct failing_noise : impulse_noise {
  template <std::floating_point V>
  void add(const address& where, double std_in_units, V* x, isize count) const {
    if (where.step == 2 && count > 1) throw randomness_error("out of order");
    impulse_noise::add(where, std_in_units, x, count);
  }
};

TEST_CASE("a base that fails within a row takes the row, and the past with it") {
  correlated noise(failing_noise{}, banded({1.0, 0.5}), run_plan::once(rows));
  noise.validate();
  noise.bind(sizes, 0);
  noise.start_row(1);
  CHECK_THROWS_AS(noise.start_row(2), randomness_error);
  CHECK(noise.rows() == 2);
  double x = 3;
  CHECK_THROWS_WITH(noise.add({.step = 2}, 1, &x, 1), contains_text("an earlier row could not be completed"));
  CHECK_THROWS_AS(noise.start_row(3), state_error);
  CHECK(x == 3);
}

TEMPLATE_LIST_TEST_CASE("the state is enough to go on elsewhere", "", all_strategies) {
  auto noise = ready(TestType::strategy());
  for (std::uint64_t t = 0; t < 7; ++t) noise.start_row(2 * t);
  std::vector<std::byte> record;
  noise.visit_state([&](std::span<std::byte> piece) { record.insert(record.end(), piece.begin(), piece.end()); });
  auto other = ready(TestType::strategy());
  std::size_t at = 0;
  other.visit_state([&](std::span<std::byte> piece) {
    std::copy_n(record.begin() + static_cast<std::ptrdiff_t>(at), piece.size(), piece.begin());
    at += piece.size();
  });
  CHECK(at == record.size());
  for (std::uint64_t t = 7;; ++t) {
    CHECK(other.rows() == t);
    CHECK(other.row_norm() == noise.row_norm());
    REQUIRE(whole_row(other, 2 * t - 2) == whole_row(noise, 2 * t - 2));
    if (t == rows) break;
    noise.start_row(2 * t);
    other.start_row(2 * t);
  }
}

TEST_CASE("one release is scaled by the multiplier of the run times the sensitivity of C") {
  auto noise = ready(banded(square_root_coefficients(3)), 1, run_plan::separated(rows, 4));
  CHECK(noise.run_multiplier() == 1.5);
  CHECK(noise.strategy_sensitivity() == Approx(std::sqrt(3 * (1 + 0.25 + 0.375 * 0.375))));
  CHECK(noise.multiplier() == 1.5 * noise.strategy_sensitivity());
  CHECK(noise.plan().separation == 4);
}

TEST_CASE("bad bases, plans and strategies are refused, and an unbound mechanism adds nothing") {
  const auto refuse = [](double multiplier, const run_plan& plan, banded<double> strategy) {
    correlated noise(counter_gaussian{.noise_multiplier = multiplier}, std::move(strategy), plan);
    noise.validate();
  };
  CHECK_NOTHROW(refuse(0, run_plan::once(3), banded({1.0})));
  CHECK_THROWS_AS(refuse(-1, run_plan::once(3), banded({1.0})), invalid_argument);
  CHECK_THROWS_AS(refuse(1, run_plan{}, banded({1.0})), invalid_argument);
  CHECK_THROWS_AS(refuse(1, run_plan::once(3), banded({0.0})), invalid_argument);
  CHECK_THROWS_WITH(refuse(1, run_plan::once(3), banded({1.0, 1e200})),
                    contains_text("the sensitivity over the run is inf"));
  correlated noise(underneath(), tree(), run_plan::once(3));
  double x = 3;
  CHECK(!(noise.multiplier() > 0)); // not a number before validate(): nothing is released by mistake
  CHECK_THROWS_WITH(noise.start_row(0), contains_text("before bind()"));
  CHECK_THROWS_AS(noise.add({}, 1, &x, 1), state_error);
  CHECK(x == 3);
}

TEST_CASE("descriptions tell plans, strategies and bases apart and hold no secret") {
  const auto text = [](auto base, auto strategy, const run_plan& plan) {
    return correlated(std::move(base), std::move(strategy), plan).describe();
  };
  const std::string one = text(counter_gaussian{.noise_multiplier = 2, .seed = 123456789}, tree(), run_plan::once(7));
  CHECK(one.find("123456789") == std::string::npos);
  CHECK(one == text(counter_gaussian{2}, tree(), run_plan::once(7)));
  CHECK(one != text(counter_gaussian{3}, tree(), run_plan::once(7)));
  CHECK(one != text(counter_gaussian{2}, tree(2), run_plan::once(7)));
  CHECK(one != text(counter_gaussian{2}, tree(), run_plan::once(8)));
  CHECK(one != text(secure_gaussian{2}, tree(), run_plan::once(7)));
}

TEST_CASE("a copy of the root's secret adds the root's noise, and a seed is reported") {
  correlated root(secure_gaussian{1.0}, banded({1.0, 0.5}), run_plan::once(rows));
  root.validate();
  root.bind(sizes, side_scalars);
  auto other = root;
  root.draw_secret();
  REQUIRE(other.secret().size() == root.secret().size());
  std::ranges::copy(root.secret(), other.secret().begin());
  for (std::uint64_t t = 0; t < 3; ++t) {
    root.start_row(t);
    other.start_row(t);
    CHECK(whole_row(root, t) == whole_row(other, t));
  }
  CHECK_FALSE(root.reproducible());
  CHECK(ready(tree()).reproducible());
}

} // namespace
