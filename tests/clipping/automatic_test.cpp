// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/clipping/automatic.hpp"

#include "dpopt/clipping/per_layer.hpp"
#include "support/bound_clipper.hpp"
#include "support/catch.hpp"

#include <limits>
#include <vector>

using namespace dpopt;
using dpopt::test::bound;

TEST_CASE("the factor is C over the norm plus gamma") {
  const auto rule = bound(automatic{flat{2}, 0.5}).rule(0);
  CHECK(rule(0) == 4);
  CHECK(rule(0.5) == 2);
  CHECK(rule(1.5) == 1);
  CHECK(rule(99.5) == 0.02);
  CHECK(bound(automatic{flat{1}}).rule(0)(0.99) == 1); // gamma 0.01
}

TEST_CASE("each group is normalized to its own bound") {
  const auto clipper = bound(automatic{per_layer{{3, 4}}, 1});
  CHECK(clipper.groups() == 2);
  CHECK(clipper.group_of(1) == 1);
  CHECK(clipper.rule(0)(2) == 1);
  CHECK(clipper.rule(1)(1) == 2);
  CHECK(clipper.bound(1) == 4);
  CHECK(clipper.sensitivity(neighbouring::add_remove) == 5);
  CHECK(clipper.sensitivity(neighbouring::zero_out) == 5);
  CHECK(clipper.sensitivity(neighbouring::replace_one) == 10);
}

TEST_CASE("gamma must be a finite number above 0, and the grouping is checked too") {
  CHECK_THROWS_WITH(bound(automatic{flat{1}, 0}), "automatic: gamma is 0; give a finite number above 0");
  CHECK_THROWS_WITH(bound(automatic{flat{1}, -1}), "automatic: gamma is -1; give a finite number above 0");
  CHECK_THROWS_AS(bound(automatic{flat{1}, std::numeric_limits<double>::infinity()}), invalid_argument);
  CHECK_THROWS_AS(bound(automatic{flat{1}, std::numeric_limits<double>::quiet_NaN()}), invalid_argument);
  CHECK_THROWS_WITH(bound(automatic{flat{}}), "max_grad_norm of flat clipping is nan; give a finite bound above 0");
}

TEST_CASE("automatic: the description holds rule and grouping") {
  CHECK(bound(automatic{flat{0.1}}).describe() == "automatic(flat(max_grad_norm=0.1), gamma=0.01)");
}
