// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/clipping/scheduled.hpp"

#include "dpopt/clipping/drop_above.hpp"
#include "dpopt/clipping/per_layer.hpp"
#include "dpopt/clipping/unit_norm.hpp"
#include "support/bound_clipper.hpp"
#include "support/catch.hpp"

#include <cstdint>
#include <limits>
#include <vector>

using namespace dpopt;
using dpopt::test::bound;

TEST_CASE("every bound is its first value times the schedule's") {
  auto clipper = bound(scheduled{per_layer{{3, 4}}, step_decay{2, 0.5}});
  CHECK(clipper.rule(0).bound == 3);
  CHECK(clipper.sensitivity(neighbouring::add_remove) == 5);
  clipper.start_step(1);
  CHECK(clipper.rule(1).bound == 4);
  clipper.start_step(4);
  CHECK(clipper.rule(0).bound == 0.75);
  CHECK(clipper.bound(1) == 1);
  CHECK(clipper.sensitivity(neighbouring::add_remove) == 1.25);
  CHECK(clipper.sensitivity(neighbouring::replace_one) == 2.5);
  clipper.start_step(2); // a pure function of the step: nothing adds up
  CHECK(clipper.bound(0) == 1.5);
}

TEST_CASE("a rule inside follows the bound, and unit_norm keeps the sensitivity at 1") {
  auto dropping = bound(scheduled{drop_above{flat{1}, 4}, exponential_decay{0.5}});
  dropping.start_step(1); // Z = 2
  CHECK(dropping.rule(0)(2) == 0.25);
  CHECK(dropping.rule(0)(2.1) == 0);
  auto rescaled = bound(scheduled{unit_norm{flat{1}}, exponential_decay{0.5}});
  rescaled.start_step(1);
  CHECK(rescaled.rule(0)(0.1) == Approx(2).epsilon(1e-14));
  CHECK(rescaled.sensitivity(neighbouring::add_remove) == 1);
  CHECK(rescaled.greatest_sensitivity() == 1);
}

TEST_CASE("the greatest sensitivity covers every step") {
  CHECK(bound(scheduled{per_layer{{3, 4}}, step_decay{2, 0.5}}).greatest_sensitivity() == 5);
  CHECK(bound(scheduled{flat{2}, cosine_decay{10, 3}}).greatest_sensitivity() == 6);
  CHECK(bound(scheduled{flat{2}, exponential_decay{1.1}}).greatest_sensitivity() ==
        std::numeric_limits<double>::infinity());
  CHECK(bound(scheduled{flat{2}, exponential_decay{1.1}}).bound(0) == 2); // and leaves the first bound alone
}

TEST_CASE("binding again starts from the bounds that were given") {
  auto layers = bound(scheduled{per_layer{{3, 4}}, exponential_decay{0.5}});
  layers.start_step(3);
  CHECK(bound(layers).bound(0) == 3);
  auto whole = bound(scheduled{flat{3}, exponential_decay{0.5}});
  whole.start_step(3);
  CHECK(bound(whole).bound(0) == 3);
}

TEST_CASE("options of both are checked, and a step without a value is an error of that step") {
  CHECK_THROWS_AS(bound(scheduled{flat{0}, exponential_decay{0.5}}), invalid_argument);
  CHECK_THROWS_AS(bound(scheduled{flat{1}, exponential_decay{}}), invalid_argument);
  auto clipper = bound(scheduled{flat{1}, lambda_schedule{[](std::uint64_t t) { return t < 2 ? 0.5 : -1.0; }}});
  CHECK_NOTHROW(clipper.start_step(1));
  CHECK_THROWS_AS(clipper.start_step(2), invalid_argument);
  CHECK(clipper.bound(0) == 0.5); // what it was
}

TEST_CASE("the description is the configuration, whatever the step") {
  auto clipper = bound(scheduled{flat{2}, exponential_decay{0.5}});
  CHECK(clipper.describe() == "scheduled(flat(max_grad_norm=2), exponential_decay(gamma=0.5))");
  clipper.start_step(3);
  CHECK(clipper.describe() == "scheduled(flat(max_grad_norm=2), exponential_decay(gamma=0.5))");
}
