// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/noise/multiplier.hpp"

#include "support/catch.hpp"

#include <limits>

TEST_CASE("a noise multiplier must be given, finite and not negative") {
  CHECK_NOTHROW(dpopt::require_multiplier(1.1));
  CHECK_NOTHROW(dpopt::require_multiplier(0));
  CHECK_THROWS_AS(dpopt::require_multiplier(-1e-300), dpopt::invalid_argument);
  CHECK_THROWS_AS(dpopt::require_multiplier(std::numeric_limits<double>::infinity()), dpopt::invalid_argument);
  CHECK_THROWS_AS(dpopt::require_multiplier(dpopt::multiplier_not_given), dpopt::invalid_argument);
  CHECK_THROWS_WITH(dpopt::require_multiplier(-0.5),
                    "noise_multiplier is -0.5: give the noise's standard deviation over "
                    "the sensitivity, a finite number >= 0");
}
