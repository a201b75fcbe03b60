// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/clipping/unit_norm.hpp"

#include "dpopt/clipping/automatic.hpp"
#include "dpopt/clipping/per_layer.hpp"
#include "support/bound_clipper.hpp"
#include "support/catch.hpp"

#include <vector>

using namespace dpopt;
using dpopt::test::bound;

TEST_CASE("every factor is divided by the sensitivity, which is 1 then") {
  const auto clipper = bound(unit_norm{per_layer{{3, 4}}});
  CHECK(clipper.rule(0)(1) == Approx(1.0 / 5).epsilon(1e-14)); // a short gradient too
  CHECK(clipper.rule(0)(30) == Approx(0.1 / 5).epsilon(1e-6));
  CHECK(clipper.rule(1)(40) == Approx(0.1 / 5).epsilon(1e-6));
  CHECK(clipper.bound(0) == Approx(0.6).epsilon(1e-14));
  CHECK(clipper.bound(1) == Approx(0.8).epsilon(1e-14));
  CHECK(clipper.bound(0) < 0.6); // roundings stay on the private side
  CHECK(clipper.sensitivity(neighbouring::add_remove) == 1);
  CHECK(clipper.sensitivity(neighbouring::zero_out) == 1);
  CHECK(clipper.sensitivity(neighbouring::replace_one) == 2);
}

TEST_CASE("it goes around a rule, and follows bounds that an outer clipper moves") {
  auto clipper = bound(unit_norm{automatic{flat{2}, 0.5}});
  CHECK(clipper.rule(0)(0.5) == Approx(1).epsilon(1e-14));
  const std::vector<double> moved{7};
  clipper.set_clip_norms(moved);
  CHECK(clipper.clip_norm(0) == 7);
  CHECK(clipper.rule(0)(0.5) == Approx(1).epsilon(1e-14));
  auto plain = bound(unit_norm{flat{2}});
  plain.set_clip_norms(moved);
  CHECK(plain.rule(0)(1) == Approx(1.0 / 7).epsilon(1e-14));
}

TEST_CASE("the grouping is checked, and described") {
  CHECK_THROWS_AS(bound(unit_norm{flat{0}}), invalid_argument);
  CHECK(bound(unit_norm{flat{0.1}}).describe() == "unit_norm(flat(max_grad_norm=0.1))");
}
