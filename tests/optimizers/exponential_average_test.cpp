// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/optimizers/exponential_average.hpp"

#include "dpopt/optimizers/adam_bc.hpp"
#include "dpopt/optimizers/rmsprop.hpp"
#include "support/catch.hpp"
#include "support/replay.hpp"

#include <array>
#include <cmath>
#include <limits>
#include <vector>

using namespace dpopt;
using namespace dpopt::testing;

namespace {

// Parameters and averages after each of some steps.
template <class B>
std::array<std::vector<std::vector<double>>, 2> run(const exponential_average<B>& optimizer, std::size_t n,
                                                    std::uint64_t steps) {
  constexpr std::size_t slots = exponential_average<B>::slots;
  std::vector<double> x = replay_start<double>(n);
  std::array<std::vector<double>, slots> state;
  state.fill(std::vector<double>(n, 0.0));
  std::array<std::vector<std::vector<double>>, 2> out;
  for (std::uint64_t t = 0; t < steps; ++t) {
    const std::vector<double> g = replay_gradient<double>(n, t);
    std::array<double*, slots> part{};
    for (std::size_t k = 0; k < slots; ++k) part[k] = state[k].data();
    optimizer.at(t).update(x.data(), g.data(), part, static_cast<isize>(n));
    out[0].push_back(x);
    out[1].push_back(state[exponential_average<B>::average_slot]);
  }
  return out;
}

} // namespace

TEST_CASE(
    "exponential_average: the average is the weighted mean of the parameters after each step, from the first step on") {
  for (const double decay : {0.0, 0.5, 0.9, 0.999999, 1 - 1e-14}) {
    const exponential_average<adam> optimizer{.base = adam{.learning_rate = 0.05}, .decay = decay};
    const auto [x, average] = run(optimizer, 7, 40);
    for (std::size_t t = 0; t < x.size(); ++t)
      for (std::size_t k = 0; k < 7; ++k) {
        long double sum = 0;
        long double weights = 0;
        for (std::size_t i = 0; i <= t; ++i) {
          const long double weight = std::pow(static_cast<long double>(decay), static_cast<long double>(t - i));
          sum += weight * static_cast<long double>(x[i][k]);
          weights += weight;
        }
        REQUIRE(average[t][k] == Approx(static_cast<double>(sum / weights)).epsilon(1e-12).margin(1e-14));
      }
    CHECK(average[0] == x[0]);
  }
}

TEST_CASE("exponential_average: what is decorated trains as if it were not") {
  const sgd base{.learning_rate = 0.1, .momentum = 0.9};
  const auto plain = replay<double>(9, 12, [&](std::uint64_t) { return base; });
  CHECK(run(exponential_average{base, 0.9}, 9, 12)[0] == plain);
}

TEST_CASE("exponential_average: tiles of any size give the same bits, averages included") {
  CHECK(tiles_change_nothing<double>(exponential_average{adam{.learning_rate = 0.05}, 0.8}));
  CHECK(tiles_change_nothing<float>(exponential_average{rmsprop{}, 0.8}));
}

TEST_CASE("exponential_average: the noise is passed on to a base that wants to know it, and to no other") {
  using aware = exponential_average<adam_bc>;
  STATIC_REQUIRE(NoiseAwareOptimizer<aware, float>);
  STATIC_REQUIRE_FALSE(NoiseAwareOptimizer<exponential_average<adam>, float>);
  CHECK(aware{}.at(3, 0.25).base.noise_variance == 0.0625);
  CHECK(aware{.decay = 0.9}.at(3, 0.25).take == aware{.decay = 0.9}.at(3).take);
}

TEST_CASE("exponential_average: options of both are validated and described") {
  CHECK_NOTHROW(exponential_average<sgd>{}.validate());
  for (const double decay : {-0.1, 1.0, 2.0, std::numeric_limits<double>::quiet_NaN()})
    CHECK_THROWS_AS((exponential_average<sgd>{.base = {}, .decay = decay}.validate()), invalid_argument);
  CHECK_THROWS_AS((exponential_average<sgd>{.base = {.learning_rate = -1}}.validate()), invalid_argument);
  CHECK(exponential_average<sgd>{}.describe() == "exponential_average(" + sgd{}.describe() + ", decay=0.999)");
}
