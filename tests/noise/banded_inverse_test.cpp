// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/noise/banded_inverse.hpp"

#include "support/catch.hpp"
#include "support/strategies.hpp"

#include <algorithm>
#include <cmath>
#include <vector>

using namespace dpopt;
using namespace dpopt::test;

namespace {

TEST_CASE("what a banded inverse really adds is w, stored or drawn again") {
  for (const auto& w : {inverse_square_root_coefficients(1), inverse_square_root_coefficients(4),
                        std::vector<double>{2, 1, -3}, inverse_square_root_coefficients(12)}) {
    const matrix expected = toeplitz_matrix(w, 9);
    CHECK(realized_inverse(banded_inverse(w), run_plan::once(9)) == expected); // exact: a weight times 1
    CHECK(realized_inverse(stored_banded_inverse(w), run_plan::once(9)) == expected);
  }
}

TEST_CASE("the sensitivity is that of the dense inverse of w") {
  const auto w = inverse_square_root_coefficients(3);
  for (const run_plan& plan : small_plans(9)) {
    INFO(plan.describe());
    const matrix c = inverse_of(toeplitz_matrix(w, 9));
    CHECK(banded_inverse(w).sensitivity(plan) >= tried_sensitivity(c, plan));
    CHECK(banded_inverse(w).sensitivity(plan) <= tried_sensitivity(c, plan) * (1 + 2e-6)); // room for sums in float
    CHECK(stored_banded_inverse(w).sensitivity(plan) == banded_inverse(w).sensitivity(plan));
  }
}

TEST_CASE("the sensitivity covers what sums in float make of the weights") {
  const std::vector<double> w{1, -1 + 0x1p-26}; // every rounding of the second moves all later coefficients
  const run_plan plan = run_plan::once(3000);
  double worst = 0;
  for (const double std : {1.0, 1.1, 0.7, 3.3, 5.7}) {
    std::vector<double> used;
    for (const double weight : w) used.push_back(static_cast<double>(static_cast<float>(std * weight)) / std);
    worst = std::max(worst, toeplitz_sensitivity(inverse_coefficients(used, 3000), plan));
  }
  CHECK(worst > toeplitz_sensitivity(inverse_coefficients(w, 3000), plan) * (1 + 1e-6));
  CHECK(worst <= banded_inverse(w).sensitivity(plan));
  CHECK_FALSE(std::isfinite(banded_inverse({1, -1}).sensitivity(run_plan::once(5000000))));
  CHECK_THROWS_WITH(correlated(impulse_noise{}, banded_inverse({1, -1}), run_plan::once(5000000)).validate(),
                    contains_text("sum up to nearly 0"));
}

TEST_CASE("the stored one keeps a vector a band") { CHECK(stored_banded_inverse({1.0, -0.5, -0.125}).vectors() == 3); }

TEST_CASE("bad coefficients are refused, and the description tells them apart") {
  const auto refuse = [](const banded_inverse& strategy) { strategy.validate(run_plan::once(3)); };
  CHECK_NOTHROW(refuse(banded_inverse({1.0, -0.5})));
  CHECK_THROWS_WITH(refuse(banded_inverse({0.0, -0.5})), contains_text("banded_inverse: coefficient 0 is 0"));
  CHECK_THROWS_AS(refuse(banded_inverse({})), invalid_argument);
  CHECK(banded_inverse({1.0, -0.5}).describe() != banded_inverse({1.0, -0.25}).describe());
  CHECK(banded_inverse({1.0, -0.5}).describe() != stored_banded_inverse({1.0, -0.5}).describe());
}

} // namespace
