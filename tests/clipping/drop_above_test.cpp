// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/clipping/drop_above.hpp"

#include "dpopt/clipping/per_layer.hpp"
#include "support/bound_clipper.hpp"
#include "support/catch.hpp"

#include <limits>
#include <vector>

using namespace dpopt;
using dpopt::test::bound;

TEST_CASE("gradients up to Z are all scaled by C / Z, and longer ones are dropped") {
  const auto rule = bound(drop_above{flat{0.5}, 20}).rule(0); // Z = 10
  CHECK(rule(0) == 0.05);
  CHECK(rule(1e-30) == 0.05);
  CHECK(rule(10) == 0.05);
  CHECK(rule(10 * (1 + 1e-15)) == 0);
  CHECK(rule(1e30) == 0);
}

TEST_CASE("each group has its own Z") {
  const auto clipper = bound(drop_above{per_layer{{3, 4}}, 2});
  CHECK(clipper.rule(0)(6) == 0.5);
  CHECK(clipper.rule(0)(7) == 0);
  CHECK(clipper.rule(1)(7) == 0.5);
  CHECK(clipper.bound(1) == 4);
  CHECK(clipper.sensitivity(neighbouring::add_remove) == 5);
  CHECK(clipper.sensitivity(neighbouring::replace_one) == 10);
}

TEST_CASE("a Z that is given by itself is that of every group, and stands still when bounds move") {
  auto clipper = bound(drop_above{per_layer{{0.5, 4}}, norm_limit{10}});
  CHECK(clipper.rule(0)(10) == 0.05);
  CHECK(clipper.rule(1)(10) == 0.4);
  for (const isize g : {0, 1}) CHECK(clipper.rule(g)(10 * (1 + 1e-15)) == 0);
  CHECK(clipper.sensitivity(neighbouring::add_remove) ==
        bound(per_layer{{0.5, 4}}).sensitivity(neighbouring::add_remove));
  clipper.set_clip_norms(std::vector<double>{1, 40});
  CHECK(clipper.rule(0)(10) == 0.1);
  CHECK(clipper.rule(1)(10) == 1); // scaled up by none
  CHECK(clipper.rule(1)(11) == 0);
  CHECK(bound(drop_above{flat{0.5}, norm_limit{10}}).rule(0)(7) == bound(drop_above{flat{0.5}, 20}).rule(0)(7));
}

TEST_CASE("Z is at least C, and the grouping is checked too") {
  CHECK_NOTHROW(bound(drop_above{flat{1}, 1}));
  CHECK_THROWS_WITH(bound(drop_above{flat{1}, 0.5}), "drop_above: ratio is 0.5; give a finite number of at least 1");
  CHECK_THROWS_AS(bound(drop_above{flat{1}, std::numeric_limits<double>::infinity()}), invalid_argument);
  CHECK_THROWS_AS(bound(drop_above{flat{1}, std::numeric_limits<double>::quiet_NaN()}), invalid_argument);
  CHECK_THROWS_AS(bound(drop_above{flat{-1}, 2}), invalid_argument);
  CHECK_NOTHROW(bound(drop_above{flat{2}, norm_limit{2}}));
  CHECK_THROWS_WITH(bound(drop_above{flat{2}, norm_limit{1.5}}),
                    "drop_above: norm_limit is 1.5; give a finite number of at least 2");
  CHECK_THROWS_AS(bound(drop_above{flat{2}, norm_limit{std::numeric_limits<double>::infinity()}}), invalid_argument);
}

TEST_CASE("drop_above: the description holds rule and grouping") {
  CHECK(bound(drop_above{flat{0.1}, 4}).describe() == "drop_above(flat(max_grad_norm=0.1), ratio=4)");
  CHECK(bound(drop_above{flat{0.1}, norm_limit{4}}).describe() == "drop_above(flat(max_grad_norm=0.1), norm_limit=4)");
}
