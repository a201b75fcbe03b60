// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/clipping/per_layer.hpp"

#include "support/catch.hpp"

#include <cmath>
#include <utility>
#include <vector>

using namespace dpopt;

namespace {
const std::vector<parameter_info> parameters = {{"conv", 12}, {"bias", 3}};

per_layer bound(clip_bounds bounds) {
  per_layer clipper{std::move(bounds)};
  clipper.bind(parameters);
  return clipper;
}
} // namespace

TEST_CASE("each parameter is a group of its own with its own bound") {
  const per_layer clipper = bound({3, 4});
  CHECK(clipper.groups() == 2);
  CHECK(clipper.group_of(0) == 0);
  CHECK(clipper.group_of(1) == 1);
  CHECK(clipper.rule(0).bound == 3);
  CHECK(clipper.rule(1).bound == 4);
}

TEST_CASE("the sensitivity is the root of the sum of squared bounds, twice that for replace_one") {
  CHECK(bound({3, 4}).sensitivity(neighbouring::add_remove) == 5);
  CHECK(bound({3, 4}).sensitivity(neighbouring::replace_one) == 10);
  CHECK(bound(2.0).sensitivity(neighbouring::add_remove) == Approx(2 * std::sqrt(2.0)));
}

TEST_CASE("bounds by name go to the parameter of that name") {
  const per_layer clipper = bound({{"bias", 4}, {"conv", 3}});
  CHECK(clipper.rule(0).bound == 3);
  CHECK(clipper.rule(1).bound == 4);
}

TEST_CASE("bounds are required, and one must be there for each parameter") {
  CHECK_THROWS_AS(bound({}), invalid_argument);
  CHECK_THROWS_WITH(bound({}), "max_grad_norm: not given; give one bound for all or one a parameter");
  CHECK_THROWS_WITH(bound({1, 2, 3}),
                    "max_grad_norm: 3 bounds for 2 parameters; give one for all, one each, or name them");
}

TEST_CASE("the description, which ranks compare, holds every bound to the last bit") {
  CHECK(bound({3, 0.1}).describe() == "per_layer(max_grad_norm=[3, 0.1])");
  CHECK(bound({3, 4}).describe() != bound({4, 3}).describe());
  CHECK(bound({3, 3}).describe() == bound(3.0).describe());
}
