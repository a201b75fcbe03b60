// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/accounting/calibration.hpp"
#include "support/catch.hpp"

#include <cmath>
#include <vector>

using namespace dpopt;

namespace {

double epsilon_with(double noise_multiplier, const noise_target& target) {
  rdp_accountant accountant(target.orders);
  accountant.record({noise_multiplier, target.sampling_rate, target.steps, target.relation});
  return accountant.epsilon(target.delta);
}

const std::vector<double> few_orders{1.25, 1.5, 2, 2.5, 3, 4, 5, 6, 8, 12, 20, 40, 100, 256};

} // namespace

TEST_CASE("the multiplier meets its target and one a little smaller does not") {
  for (const double epsilon : {0.2, 1.0, 3.0, 8.0, 30.0}) {
    for (const double rate : {0.004, 0.1, 1.0}) {
      for (const double tolerance : {1e-9, 1e-3}) {
        const noise_target target{.epsilon = epsilon,
                                  .delta = 1e-5,
                                  .sampling_rate = rate,
                                  .steps = 700,
                                  .relative_tolerance = tolerance,
                                  .orders = few_orders};
        const double sigma = find_noise_multiplier(target);
        INFO("epsilon " << epsilon << " rate " << rate << " sigma " << sigma);
        CHECK(epsilon_with(sigma, target) <= epsilon);
        CHECK(epsilon_with(sigma * (1 - 1.01 * tolerance), target) > epsilon);
      }
    }
  }
}

TEST_CASE("the default orders need no more noise than integer orders") {
  noise_target target{.epsilon = 2, .delta = 1e-6, .sampling_rate = 0.001, .steps = 10000};
  const double standard = find_noise_multiplier(target);
  target.orders.clear();
  for (int i = 2; i <= 64; ++i) target.orders.push_back(i);
  CHECK(standard < find_noise_multiplier(target));
}

TEST_CASE("more steps and replace_one need more noise") {
  noise_target target{.epsilon = 2, .delta = 1e-5, .sampling_rate = 0.05, .steps = 100, .orders = few_orders};
  const double base = find_noise_multiplier(target);
  target.steps = 1000;
  const double longer = find_noise_multiplier(target);
  CHECK(longer > base);
  target.relation = neighbouring::replace_one;
  const double replaced = find_noise_multiplier(target);
  CHECK(replaced > longer);
  target.sampling_rate = 1; // which replace_one does not profit from
  CHECK(find_noise_multiplier(target) == replaced);
}

TEST_CASE("a target that any noise meets gets the floor, and one that none meets an error") {
  CHECK(find_noise_multiplier({.epsilon = 1e12, .delta = 0.1, .steps = 1, .orders = {2}}) == 0x1p-10);
  CHECK_THROWS_WITH(find_noise_multiplier({.epsilon = 0.5, .delta = 1e-30, .steps = 1, .orders = {1.5}}),
                    Catch::Matchers::StartsWith("no noise multiplier reaches epsilon 0.5 at delta "));
}

TEST_CASE("a bad target is refused by name") {
  const noise_target good{.epsilon = 2, .delta = 1e-5, .sampling_rate = 0.1, .steps = 10, .orders = few_orders};
  noise_target bad = good;
  bad.epsilon = 0;
  CHECK_THROWS_WITH(find_noise_multiplier(bad), "noise_target: epsilon is 0; use a finite number above 0");
  bad = good;
  bad.delta = 1;
  CHECK_THROWS_WITH(find_noise_multiplier(bad), "noise_target: delta is 1; use a number in (0, 1)");
  bad = good;
  bad.sampling_rate = 2;
  CHECK_THROWS_WITH(find_noise_multiplier(bad), "noise_target: sampling_rate is 2; use a number in (0, 1]");
  bad = good;
  bad.steps = 0;
  CHECK_THROWS_WITH(find_noise_multiplier(bad), "noise_target: steps is 0; use 1 or more");
  bad = good;
  bad.relative_tolerance = 0;
  CHECK_THROWS_WITH(find_noise_multiplier(bad), "noise_target: relative_tolerance is 0; use a number in [1e-12, 1)");
  bad = good;
  bad.orders = {0.5};
  CHECK_THROWS_WITH(find_noise_multiplier(bad), "rdp_accountant: order 0.5 is not a finite number above 1");
}
