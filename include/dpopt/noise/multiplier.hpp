// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// What every Gaussian mechanism says about its noise multiplier.
#pragma once

#include "dpopt/core/error.hpp"

#include <cmath>
#include <limits>

namespace dpopt {

/// Default of a mechanism's noise_multiplier: not a number, so that forgetting it is an error and not "no noise".
inline constexpr double multiplier_not_given = std::numeric_limits<double>::quiet_NaN();

/// @throw invalid_argument If the multiplier is negative or not finite. 0 is allowed: it releases without privacy.
inline void require_multiplier(double noise_multiplier) {
  if (!(std::isfinite(noise_multiplier) && noise_multiplier >= 0)) {
    throw invalid_argument(message("noise_multiplier is ", noise_multiplier,
                                   ": give the noise's standard deviation over the sensitivity, a finite number >= 0"));
  }
}

} // namespace dpopt
