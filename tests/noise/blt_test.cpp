// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/noise/blt.hpp"

#include "support/catch.hpp"
#include "support/strategies.hpp"

#include <vector>

using namespace dpopt;
using namespace dpopt::test;

namespace {

const std::vector<blt_parameters> examples{
    {{0.9, 0.5}, {0.2, 0.3}}, {{0.99, 0.9, 0.4}, {0.05, 0.1, 0.3}}, {{0.5}, {0.8}}, {}};

TEST_CASE("what a BLT really adds is C^-1 z") {
  for (const blt_parameters& p : examples) {
    const matrix c = toeplitz_matrix(blt_coefficients(p, 9), 9);
    CHECK(largest_difference(inverse_of(realized_inverse(blt(p), run_plan::once(9))), c) < 1e-14);
    CHECK(largest_difference(inverse_of(realized_inverse<float>(blt<float>(p), run_plan::once(9))), c) < 1e-5);
  }
}

TEST_CASE("the sensitivity is that of C") {
  for (const blt_parameters& p : examples)
    for (const run_plan& plan : small_plans(9)) {
      INFO(plan.describe());
      CHECK(blt(p).sensitivity(plan) ==
            Approx(tried_sensitivity(toeplitz_matrix(blt_coefficients(p, 9), 9), plan)).epsilon(1e-12));
    }
}

TEST_CASE("a BLT in float is accounted for with the decays that float has, and not with those that were given") {
  const blt_parameters given{{1 - 0x1p-26, 0.5}, {0.01, 0.2}}; // the first decay is 1 in float
  const blt_parameters used{{1, 0.5}, {static_cast<double>(0.01F), static_cast<double>(0.2F)}};
  const run_plan plan = run_plan::once(200000);
  CHECK(blt<float>(given).sensitivity(plan) == blt<double>(used).sensitivity(plan));
  CHECK(blt<float>(given).sensitivity(plan) > blt<double>(given).sensitivity(plan) * 1.001);
  CHECK_THROWS_WITH(blt<float>({{1 - 0x1p-26, 1}, {0.1, 0.2}}).validate(plan), contains_text("merge the buffers"));
}

TEST_CASE("memory grows with the buffers and not with the releases") {
  CHECK(blt(examples[0]).vectors() == 3);
  CHECK(blt(blt_parameters{}).vectors() == 1);
}

TEST_CASE("bad parameters are refused, and the description tells them apart") {
  const auto refuse = [](const blt_parameters& p) { blt(p).validate(run_plan::once(3)); };
  CHECK_NOTHROW(refuse(examples[0]));
  CHECK_THROWS_AS(refuse({{0.5}, {}}), invalid_argument);
  CHECK(blt(blt_parameters{{0.5}, {0.1}}).describe() != blt(blt_parameters{{0.5}, {0.2}}).describe());
  CHECK(blt(blt_parameters{{0.5}, {0.1}}).describe() != blt(blt_parameters{{0.4}, {0.1}}).describe());
}

} // namespace
