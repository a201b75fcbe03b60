// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/clipping/norm_bound.hpp"

#include "support/catch.hpp"

#include <cmath>
#include <limits>

using namespace dpopt;

TEST_CASE("a short gradient is left alone, a long one is scaled to the bound") {
  const norm_bound rule{2.0};
  CHECK(rule(0) == 1);
  CHECK(rule(1) == 1);
  CHECK(rule(1.999) == 1);
  CHECK(rule(4) == 2.0 / (4 + 1e-6)); // Opacus' constant
  CHECK(rule(2000) == 2.0 / (2000 + 1e-6));
}

TEST_CASE("a factor is never above 1, and factor x norm never above the bound") {
  for (const double bound : {1e-10, 1e-3, 1.0, 7.5, 1e10})
    for (double norm = 1e-30; norm < 1e31; norm *= 1.7) {
      const double factor = norm_bound{bound}(norm);
      REQUIRE(factor >= 0);
      REQUIRE(factor <= 1);
      REQUIRE(static_cast<long double>(factor) * static_cast<long double>(norm) <=
              static_cast<long double>(bound) * (1 + 2e-16L)); // sources multiply by rounded_down(factor)
    }
}

TEST_CASE("a norm just below the bound is already scaled, on the private side") {
  const double norm = 1.0 - 5e-7;
  CHECK(norm_bound{1.0}(norm) < 1);
  CHECK(norm_bound{1.0}(norm)*norm < 1);
}

TEST_CASE("a norm that is no finite number drops the sample") {
  const norm_bound rule{1.0};
  CHECK(rule(std::numeric_limits<double>::quiet_NaN()) == 0);
  CHECK(rule(std::numeric_limits<double>::infinity()) == 0);
}

TEST_CASE("a bound must be a finite number above 0, and the message says whose") {
  CHECK_NOTHROW(require_positive_bound("'w'", 1e-300));
  CHECK_NOTHROW(require_positive_bound("'w'", 1e300));
  CHECK_THROWS_AS(require_positive_bound("'w'", 0), invalid_argument);
  CHECK_THROWS_WITH(require_positive_bound("'w'", 0), "max_grad_norm of 'w' is 0; give a finite bound above 0");
  CHECK_THROWS_WITH(require_positive_bound("'w'", -1.5), "max_grad_norm of 'w' is -1.5; give a finite bound above 0");
  CHECK_THROWS_WITH(require_positive_bound("'w'", std::numeric_limits<double>::infinity()),
                    "max_grad_norm of 'w' is inf; give a finite bound above 0");
  CHECK_THROWS_WITH(require_positive_bound("'w'", std::numeric_limits<double>::quiet_NaN()),
                    "max_grad_norm of 'w' is nan; give a finite bound above 0");
}
