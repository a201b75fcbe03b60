// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/clipping/flat.hpp"

#include "support/catch.hpp"

#include <limits>
#include <vector>

using namespace dpopt;

namespace {
const std::vector<parameter_info> parameters = {{"conv", 12}, {"bias", 3}, {"scale", 1}};
} // namespace

TEST_CASE("flat clipping has one group, one bound and one norm over all parameters") {
  flat clipper{1.5};
  CHECK_NOTHROW(clipper.bind(parameters));
  CHECK(clipper.groups() == 1);
  for (isize p = 0; p < 3; ++p) CHECK(clipper.group_of(p) == 0);
  CHECK(clipper.rule(0).bound == 1.5);
}

TEST_CASE("the sensitivity is the bound, and twice that when one record is exchanged for another") {
  flat clipper{1.5};
  clipper.bind(parameters);
  CHECK(clipper.sensitivity(neighbouring::add_remove) == 1.5);
  CHECK(clipper.sensitivity(neighbouring::replace_one) == 3.0);
}

TEST_CASE("the bound is required, finite and positive") {
  CHECK_THROWS_AS(flat{}.bind(parameters), invalid_argument);
  CHECK_THROWS_WITH(flat{}.bind(parameters), "max_grad_norm of flat clipping is nan; give a finite bound above 0");
  CHECK_THROWS_WITH(flat{0}.bind(parameters), "max_grad_norm of flat clipping is 0; give a finite bound above 0");
  CHECK_THROWS_WITH(flat{-2}.bind(parameters), "max_grad_norm of flat clipping is -2; give a finite bound above 0");
  CHECK_THROWS_AS(flat{std::numeric_limits<double>::infinity()}.bind(parameters), invalid_argument);
}

TEST_CASE("the description, which ranks compare, holds the bound to the last bit") {
  CHECK(flat{0.1}.describe() == "flat(max_grad_norm=0.1)");
  CHECK(flat{0.1}.describe() != flat{0.1 + 1e-16}.describe());
}
