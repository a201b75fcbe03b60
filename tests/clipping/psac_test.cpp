// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/clipping/psac.hpp"

#include "dpopt/clipping/automatic.hpp"
#include "dpopt/clipping/per_layer.hpp"
#include "support/bound_clipper.hpp"
#include "support/catch.hpp"

#include <cmath>
#include <limits>
#include <vector>

using namespace dpopt;
using dpopt::test::bound;

TEST_CASE("the factor is C over norm + r / (norm + r)") {
  const auto rule = bound(psac{flat{3}, 0.5}).rule(0);
  CHECK(rule(0) == 3);
  CHECK(rule(0.5) == 3 / (0.5 + 0.5));
  CHECK(rule(2) == Approx(3 / (2 + 0.2)).epsilon(1e-15));
  CHECK(rule(1e20) == 3 / 1e20);
}

TEST_CASE("a short gradient weighs less than one of middle length, unlike with normalization") {
  const double r = 0.01;
  const auto rule = bound(psac{flat{1}, r}).rule(0);
  const double peak = std::sqrt(r) - r;
  CHECK(rule(peak) == Approx(1 / (2 * std::sqrt(r) - r)).epsilon(1e-14));
  CHECK(rule(peak) > rule(peak / 2));
  CHECK(rule(peak) > rule(peak * 2));
  const auto other = bound(automatic{flat{1}, r}).rule(0);
  CHECK(other(peak / 4) > other(peak));
}

TEST_CASE("each group has its own bound") {
  const auto clipper = bound(psac{per_layer{{3, 4}}, 1});
  CHECK(clipper.rule(1)(1) == 4 / 1.5);
  CHECK(clipper.bound(0) == 3);
  CHECK(clipper.sensitivity(neighbouring::add_remove) == 5);
  CHECK(clipper.sensitivity(neighbouring::replace_one) == 10);
}

TEST_CASE("r must be a finite number above 0, and the grouping is checked too") {
  CHECK_THROWS_WITH(bound(psac{flat{1}, 0}), "psac: r is 0; give a finite number above 0");
  CHECK_THROWS_AS(bound(psac{flat{1}, std::numeric_limits<double>::quiet_NaN()}), invalid_argument);
  CHECK_THROWS_AS(bound(psac{flat{0}}), invalid_argument);
}

TEST_CASE("psac: the description holds rule and grouping") {
  CHECK(bound(psac{flat{0.1}}).describe() == "psac(flat(max_grad_norm=0.1), r=0.1)");
}
