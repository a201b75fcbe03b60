// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/noise/toeplitz.hpp"

#include "support/catch.hpp"
#include "support/strategies.hpp"

#include <cmath>
#include <limits>
#include <vector>

using namespace dpopt;
using namespace dpopt::test;

TEST_CASE("the square root squared is the prefix sum, and times its inverse the identity") {
  const auto c = square_root_coefficients(40);
  const auto w = inverse_square_root_coefficients(40);
  for (std::size_t t = 0; t < 40; ++t) {
    double square = 0;
    double identity = 0;
    for (std::size_t k = 0; k <= t; ++k) {
      square += c[k] * c[t - k];
      identity += c[k] * w[t - k];
    }
    CHECK(square == Approx(1).epsilon(1e-13));
    CHECK(identity == Approx(t == 0 ? 1 : 0).margin(1e-14));
  }
}

TEST_CASE("inverse coefficients are those of the inverse matrix") {
  const std::vector<double> c{2, -0.5, 0.25};
  const auto w = inverse_coefficients(c, 12);
  CHECK(largest_difference(inverse_of(toeplitz_matrix(c, 12)), toeplitz_matrix(w, 12)) < 1e-15);
  CHECK(inverse_coefficients(w, 12)[2] == Approx(0.25));
  CHECK(inverse_coefficients(w, 12)[3] == Approx(0).margin(1e-15));
  CHECK(inverse_coefficients(c, 0).empty());
}

TEST_CASE("prefix errors are the row norms of prefix sums of the noise") {
  const std::vector<double> w{1, -0.5, -0.125};
  const auto errors = prefix_squared_errors(w, 5);
  const matrix noise = toeplitz_matrix(w, 5);
  std::vector<double> sum(5, 0.0);
  for (std::size_t t = 0; t < 5; ++t) {
    double squares = 0;
    for (std::size_t s = 0; s < 5; ++s) {
      sum[s] += noise[t][s];
      squares += sum[s] * sum[s];
    }
    CHECK(errors[t] == Approx(squares).epsilon(1e-14));
  }
}

TEST_CASE("without correlation a record costs the square root of its releases") {
  const std::vector<double> identity{1};
  CHECK(toeplitz_sensitivity(identity, run_plan::once(50)) == Approx(1));
  CHECK(toeplitz_sensitivity(identity, run_plan::separated(50, 1)) == Approx(std::sqrt(50)));
  CHECK(toeplitz_sensitivity(identity, run_plan::separated(50, 7, 3)) == Approx(std::sqrt(3)));
  CHECK(toeplitz_sensitivity(identity, run_plan::cyclic(50, 7)) == Approx(std::sqrt(8)));
}

TEST_CASE("for coefficients that do not increase the sensitivity is the largest of all allowed participations") {
  for (const auto& c :
       {square_root_coefficients(9), square_root_coefficients(3), std::vector<double>{1, 1, 1, 1}, {2, 0.1}})
    for (const run_plan& plan : small_plans(9)) {
      INFO(plan.describe() << ", second coefficient " << c[1]);
      const double tried = tried_sensitivity(toeplitz_matrix(c, 9), plan);
      CHECK(toeplitz_sensitivity(c, plan) == Approx(tried).epsilon(1e-12));
      CHECK(toeplitz_sensitivity(c, plan) >= tried); // rounded up
    }
}

TEST_CASE("for other coefficients the sensitivity is an upper bound, exact where positive ones meet a cyclic plan") {
  for (const auto& c : {std::vector<double>{1, 0.2, 0.9}, {1, 0, 0, 2}, {1, -0.5, 0.25, -0.125, 0.1}, {0.5, 3}})
    for (const run_plan& plan : small_plans(9)) {
      INFO(plan.describe() << ", coefficients " << c[0] << ' ' << c[1]);
      const double tried = tried_sensitivity(toeplitz_matrix(c, 9), plan);
      CHECK(toeplitz_sensitivity(c, plan) >= tried);
      if (plan.most_participations() == 1 || (plan.same_place && c[1] >= 0))
        CHECK(toeplitz_sensitivity(c, plan) == Approx(tried).epsilon(1e-12));
    }
}

TEST_CASE("sensitivity grows with what a record may do, and scales with the strategy") {
  const auto c = square_root_coefficients(16);
  CHECK(toeplitz_sensitivity(c, run_plan::separated(100, 10, 3)) >
        toeplitz_sensitivity(c, run_plan::separated(100, 10, 2)));
  CHECK(toeplitz_sensitivity(c, run_plan::separated(100, 5, 3)) >
        toeplitz_sensitivity(c, run_plan::separated(100, 10, 3)));
  std::vector<double> twice = c;
  for (double& x : twice) x *= 2;
  CHECK(toeplitz_sensitivity(twice, run_plan::separated(100, 5)) ==
        Approx(2 * toeplitz_sensitivity(c, run_plan::separated(100, 5))).epsilon(1e-14));
}

TEST_CASE("coefficients that are missing, not finite or without a diagonal are refused by name") {
  const auto problem = [](const std::vector<double>& c) { detail::require_coefficients("banded", c); };
  CHECK_NOTHROW(problem({1, -3}));
  CHECK_THROWS_WITH(problem({}), contains_text("banded: there are no coefficients"));
  CHECK_THROWS_WITH(problem({0, 1}), contains_text("coefficient 0 is 0"));
  CHECK_THROWS_WITH(problem({1, std::numeric_limits<double>::infinity()}), contains_text("coefficient 1 is inf"));
}
