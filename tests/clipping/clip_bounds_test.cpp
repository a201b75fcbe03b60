// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/clipping/clip_bounds.hpp"

#include "support/catch.hpp"

#include <limits>
#include <vector>

using namespace dpopt;

namespace {

const std::vector<parameter_info> parameters = {{"conv", 12}, {"bias", 3}, {"scale", 1}};

std::vector<double> resolved(const clip_bounds& bounds) { return bounds.resolve(parameters); }

} // namespace

TEST_CASE("one number is the bound of every parameter") {
  const clip_bounds bounds = 0.5;
  CHECK(resolved(bounds) == std::vector<double>{0.5, 0.5, 0.5});
}

TEST_CASE("a list has one bound a parameter, in order") {
  CHECK(resolved({1, 2, 3}) == std::vector<double>{1, 2, 3});
  CHECK(resolved(std::vector<double>{0.1, 0.2, 0.3}) == std::vector<double>{0.1, 0.2, 0.3});
}

TEST_CASE("bounds by name may come in any order") {
  CHECK(resolved({{"scale", 3}, {"conv", 1}, {"bias", 2}}) == std::vector<double>{1, 2, 3});
}

TEST_CASE("bounds that do not fit the parameters are refused, never cut short") {
  CHECK_THROWS_AS(resolved({}), invalid_argument);
  CHECK_THROWS_WITH(resolved({}), "max_grad_norm: not given; give one bound for all or one a parameter");
  CHECK_THROWS_WITH(resolved(std::vector<double>{}),
                    "max_grad_norm: not given; give one bound for all or one a parameter");
  CHECK_THROWS_AS(resolved({1, 2}), invalid_argument);
  CHECK_THROWS_WITH(resolved({1, 2}),
                    "max_grad_norm: 2 bounds for 3 parameters; give one for all, one each, or name them");
  CHECK_THROWS_WITH(resolved({1, 2, 3, 4}),
                    "max_grad_norm: 4 bounds for 3 parameters; give one for all, one each, or name them");
  CHECK_THROWS_WITH(resolved(std::vector<double>{1}),
                    "max_grad_norm: 1 bounds for 3 parameters; give one for all, one each, or name them");
}

TEST_CASE("a name that is unknown, missing or given twice is named in the error") {
  CHECK_THROWS_WITH(resolved({{"conv", 1}, {"bias", 2}, {"gain", 3}}), "max_grad_norm: no parameter is named 'gain'");
  CHECK_THROWS_WITH(resolved({{"conv", 1}, {"scale", 2}}), "max_grad_norm: no bound for 'bias'; add one");
  CHECK_THROWS_WITH(resolved({{"conv", 1}, {"bias", 2}, {"scale", 3}, {"bias", 2}}),
                    "max_grad_norm: 'bias' is given twice");
  CHECK_THROWS_AS(resolved({{"conv", 1}}), invalid_argument);
}

TEST_CASE("each bound must be a finite number above 0; the error names the parameter") {
  constexpr double nan_value = std::numeric_limits<double>::quiet_NaN();
  constexpr double infinite = std::numeric_limits<double>::infinity();
  CHECK_THROWS_WITH(resolved({1, 0, 3}), "max_grad_norm of 'bias' is 0; give a finite bound above 0");
  CHECK_THROWS_WITH(resolved({1, 2, -3}), "max_grad_norm of 'scale' is -3; give a finite bound above 0");
  CHECK_THROWS_WITH(resolved({nan_value, 2, 3}), "max_grad_norm of 'conv' is nan; give a finite bound above 0");
  CHECK_THROWS_WITH(resolved({{"conv", 1}, {"scale", infinite}, {"bias", 2}}),
                    "max_grad_norm of 'scale' is inf; give a finite bound above 0");
  CHECK_THROWS_WITH(resolved(-1.0), "max_grad_norm of 'conv' is -1; give a finite bound above 0");
}
