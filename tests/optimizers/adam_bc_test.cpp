// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/optimizers/adam_bc.hpp"

#include "dpopt/optimizers/adam.hpp"
#include "support/catch.hpp"
#include "support/replay.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

using namespace dpopt;
using namespace dpopt::testing;

namespace {

// adam_bc told the same noise at every step.
struct told : adam_bc {
  double noise_std = 0;
  [[nodiscard]] auto at(std::uint64_t t) const { return adam_bc::at(t, noise_std); }
};

// Alg. 1 of the paper, which subtracts from the corrected average.
auto reference(const adam_bc& o, double noise_std) {
  return [=](long double x, const std::vector<long double>& gradients) {
    long double m = 0, v = 0;
    std::vector<long double> values;
    for (std::size_t t = 0; t < gradients.size(); ++t) {
      const long double g = (o.maximize ? -gradients[t] : gradients[t]) + static_cast<long double>(o.weight_decay) * x;
      m = o.beta1 * m + (1 - o.beta1) * g;
      v = o.beta2 * v + (1 - o.beta2) * g * g;
      const double correction1 = 1 - std::pow(o.beta1, static_cast<double>(t + 1));
      const double correction2 = 1 - std::pow(o.beta2, static_cast<double>(t + 1));
      const long double freed =
          v / correction2 - static_cast<long double>(noise_std) * static_cast<long double>(noise_std);
      x -= o.learning_rate * (m / correction1) / std::sqrt(std::max(freed, static_cast<long double>(o.floor)));
      values.push_back(x);
    }
    return values;
  };
}

void check(const adam_bc& o, double noise_std) {
  INFO(o.describe() << " noise " << noise_std);
  const told optimizer{o, noise_std};
  CHECK(worst_difference_to<double>(optimizer, reference(o, noise_std)) <= 1e-11);
  CHECK(tiles_change_nothing<double>(optimizer));
  CHECK(tiles_change_nothing<float>(optimizer));
}

} // namespace

TEST_CASE("adam_bc is algorithm 1 of the paper: the noise's variance is taken off, down to the floor") {
  check(adam_bc{}, 0.0);
  check(adam_bc{.learning_rate = 0.05, .beta1 = 0.8, .beta2 = 0.95, .floor = 1e-3}, 0.1);
  check(adam_bc{.learning_rate = 0.01, .floor = 1e-2, .weight_decay = 0.1, .maximize = true}, 0.7);
  check(adam_bc{.floor = 1e-4}, 10.0); // every mean square is below the floor
  CHECK(worst_difference_to<float>(told{adam_bc{.floor = 1e-2}, 0.1}, reference(adam_bc{.floor = 1e-2}, 0.1)) <= 2e-4);
}

TEST_CASE("adam_bc: without noise and with a low floor it is Adam without eps") {
  const auto ours = replay<double>(11, 20, [](std::uint64_t) { return told{adam_bc{.floor = 1e-30}, 0.0}; });
  const auto adams = replay<double>(11, 20, [](std::uint64_t) { return adam{.eps = 0}; });
  for (std::size_t k = 0; k < 10; ++k) CHECK(ours.back()[k] == Approx(adams.back()[k]).epsilon(1e-12));
}

TEST_CASE("adam_bc: the mean square is that of the gradients without their noise, also when the noise changes") {
  // Gradients of constant square 0.25 under noise that falls from 2 to 0.5; the average over 20000 independent elements
  // has standard error below 0.01, so 0.05 is 5 of them (two-sided significance 6e-7).
  constexpr std::size_t n = 20000;
  std::mt19937_64 engine(7);
  std::normal_distribution<double> normal;
  const adam_bc optimizer{.learning_rate = 0, .beta2 = 0.9};
  std::vector<double> x(n), m(n), v(n), g(n);
  for (std::uint64_t t = 0; t < 30; ++t) {
    const double noise_std = t < 20 ? 2.0 : 0.5;
    for (double& gradient : g) gradient = 0.5 + noise_std * normal(engine);
    optimizer.at(t, noise_std).update(x.data(), g.data(), std::array<double*, 2>{m.data(), v.data()}, n);
  }
  double mean = 0;
  for (const double square : v) mean += square / n;
  CHECK(mean / (1 - std::pow(0.9, 30)) == Approx(0.25).margin(0.05));
}

TEST_CASE("adam_bc: options are validated and described") {
  CHECK_NOTHROW(adam_bc{}.validate());
  const double nan = std::numeric_limits<double>::quiet_NaN();
  for (const double bad : {0.0, -1.0, 1e-40, nan, std::numeric_limits<double>::infinity()})
    CHECK_THROWS_AS((adam_bc{.floor = bad}.validate()), invalid_argument);
  CHECK_THROWS_AS((adam_bc{.learning_rate = -1}.validate()), invalid_argument);
  CHECK_THROWS_AS((adam_bc{.beta1 = 1}.validate()), invalid_argument);
  CHECK_THROWS_AS((adam_bc{.beta2 = -0.1}.validate()), invalid_argument);
  CHECK_THROWS_AS((adam_bc{.weight_decay = nan}.validate()), invalid_argument);
  CHECK_THROWS_WITH((adam_bc{.floor = 0}.validate()), "adam_bc: floor is 0; use a finite number of at least 1e-30");
  CHECK(adam_bc{}.describe() ==
        "adam_bc(learning_rate=0.001, beta1=0.9, beta2=0.999, floor=5e-08, weight_decay=0, maximize=false)");
}
