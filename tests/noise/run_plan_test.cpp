// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/noise/run_plan.hpp"

#include "support/catch.hpp"

using dpopt::run_plan;

TEST_CASE("participations are bounded by what the releases have room for") {
  CHECK(run_plan::once(100).most_participations() == 1);
  CHECK(run_plan::separated(100, 1).most_participations() == 100);
  CHECK(run_plan::separated(100, 30).most_participations() == 4); // 0, 30, 60, 90
  CHECK(run_plan::separated(100, 25).most_participations() == 4);
  CHECK(run_plan::separated(100, 25, 3).most_participations() == 3);
  CHECK(run_plan::separated(10, 20, 3).most_participations() == 1);
  CHECK(run_plan::cyclic(100, 33).most_participations() == 4);
  CHECK(run_plan::cyclic(100, 33).same_place);
}

TEST_CASE("a plan without releases, separation or participations is refused by name") {
  CHECK_NOTHROW(run_plan::separated(1, 5, 1).validate());
  CHECK_THROWS_WITH(run_plan{}.validate(), contains_text("releases is 0"));
  CHECK_THROWS_AS(run_plan::once(std::uint64_t{1} << 33).validate(), dpopt::invalid_argument);
  CHECK_THROWS_WITH(run_plan::separated(10, 0).validate(), contains_text("separation is 0"));
  CHECK_THROWS_WITH(run_plan::separated(10, 1, 0).validate(), contains_text("participations is 0"));
}

TEST_CASE("what two ranks could declare differently is in the description") {
  const auto text = [](const run_plan& plan) { return plan.describe(); };
  CHECK(text(run_plan::once(10)) != text(run_plan::once(11)));
  CHECK(text(run_plan::separated(10, 2)) != text(run_plan::separated(10, 3)));
  CHECK(text(run_plan::separated(10, 2)) != text(run_plan::cyclic(10, 2)));
  CHECK(text(run_plan::separated(10, 2, 2)) != text(run_plan::separated(10, 2, 3)));
  CHECK(text(run_plan::separated(10, 20)) == text(run_plan::once(10))); // the same promise
}
