// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/noise/banded.hpp"

#include "support/catch.hpp"
#include "support/strategies.hpp"

#include <cmath>
#include <vector>

using namespace dpopt;
using namespace dpopt::test;

namespace {

const run_plan nine = run_plan::once(9);

TEST_CASE("what a banded strategy really adds is C^-1 z, for any number of bands") {
  for (const isize bands : {1, 2, 3, 4, 8, 9, 12}) {
    const auto c = square_root_coefficients(bands);
    CHECK(largest_difference(inverse_of(realized_inverse(banded(c), nine)), toeplitz_matrix(c, 9)) < 1e-14);
  }
  const std::vector<double> c{2, -0.5, 0.25, 3}; // no need to fall, nor to start with 1
  CHECK(largest_difference(inverse_of(realized_inverse(banded(c), nine)), toeplitz_matrix(c, 9)) < 1e-12);
  CHECK(largest_difference(inverse_of(realized_inverse<float>(banded<float>(c), nine)), toeplitz_matrix(c, 9)) < 1e-5);
}

TEST_CASE("with unit columns each column of C has norm 1 and the shape that it had") {
  const auto c = square_root_coefficients(4);
  const matrix real = inverse_of(realized_inverse(banded(c, true), nine));
  const matrix plain = toeplitz_matrix(c, 9);
  for (std::size_t s = 0; s < 9; ++s) {
    double squares = 0;
    for (std::size_t t = s; t < 9; ++t) {
      squares += real[t][s] * real[t][s];
      CHECK(real[t][s] / real[s][s] == Approx(plain[t][s] / plain[s][s]).margin(1e-14));
    }
    CHECK(squares == Approx(1));
  }
}

TEST_CASE("the sensitivity is that of the C that is used, and of no inverse") {
  for (const auto& c : {square_root_coefficients(3), std::vector<double>{0.7, 0.6, 0.1}})
    for (const run_plan& plan : small_plans(9)) {
      INFO(plan.describe());
      const banded strategy(c);
      const matrix real = inverse_of(realized_inverse(strategy, plan));
      CHECK(strategy.sensitivity(plan) == Approx(tried_sensitivity(real, plan)).epsilon(1e-12));
      if (plan.most_participations() > 1 && plan.separation < 3) continue;
      const banded scaled(c, true);
      CHECK(scaled.sensitivity(plan) ==
            Approx(tried_sensitivity(inverse_of(realized_inverse(scaled, plan)), plan)).epsilon(1e-12));
    }
}

TEST_CASE("a band in float is accounted for with the coefficients that float has") {
  const std::vector<double> used{1, static_cast<double>(0.1F), static_cast<double>(0.7F)};
  for (const run_plan& plan : small_plans(9))
    CHECK(banded<float>({1, 0.1, 0.7}).sensitivity(plan) == banded(used).sensitivity(plan));
  CHECK_THROWS_WITH(banded<float>({1e-50, 1}).validate(nine), contains_text("coefficient 0 is 0"));
}

TEST_CASE("unit columns in float are accounted for with the norms that float has") {
  const double used = static_cast<double>(0.4F), norm = std::sqrt(1 + used * used);
  const double left = norm / static_cast<double>(static_cast<float>(norm)); // of a column whose norm is taken out
  CHECK(left > 1 + 0x1p-25);
  CHECK(banded<float>({1, 0.4}, true).sensitivity(nine) >= left);
}

TEST_CASE("it keeps one vector less than there are bands") {
  CHECK(banded(square_root_coefficients(1)).vectors() == 1);
  CHECK(banded(square_root_coefficients(2)).vectors() == 1);
  CHECK(banded(square_root_coefficients(16)).vectors() == 15);
}

TEST_CASE("bad coefficients, and unit columns that overlap, are refused") {
  const auto refuse = [](banded<double> strategy, const run_plan& plan) { strategy.validate(plan); };
  CHECK_NOTHROW(refuse(banded({1.0, 0.5}, true), run_plan::separated(9, 2)));
  CHECK_THROWS_WITH(refuse(banded({1.0, 0.5}, true), run_plan::separated(9, 1)),
                    contains_text("separation of the 2 bands"));
  CHECK_THROWS_AS(refuse(banded(std::vector<double>{}), nine), invalid_argument);
  CHECK_THROWS_AS(refuse(banded({-1.0, 0.5}), nine), invalid_argument);
}

TEST_CASE("the description tells coefficients apart") {
  CHECK(banded({1.0, 0.5}).describe() == banded({1.0, 0.5}).describe());
  CHECK(banded({1.0, 0.5}).describe() != banded({1.0, 0.5000001}).describe());
  CHECK(banded({1.0, 0.5}).describe() != banded({1.0, 0.5}, true).describe());
}

} // namespace
