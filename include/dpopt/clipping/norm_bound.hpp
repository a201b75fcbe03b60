// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The usual rule: scale a gradient down to norm C, never up (Abadi et al. 2016, arXiv 1607.00133, alg. 1).
#pragma once

#include "dpopt/core/error.hpp"
#include "dpopt/core/platform.hpp"

#include <cmath>
#include <string_view>

namespace dpopt {

/// factor = min(1, C / (norm + 1e-6)); the constant is Opacus', kept for parity, and errs on the private side.
/// A norm that is not finite gives 0: the sample adds nothing to its group.
struct norm_bound {
  double bound = 0;
  static constexpr double stabilizer = 1e-6;

  [[nodiscard]] DPOPT_DEVICE double operator()(double norm) const noexcept {
    if (!std::isfinite(norm)) return 0;
    const double factor = bound / (norm + stabilizer);
    return factor < 1 ? factor : 1;
  }
};

/// @throw invalid_argument unless `value` is finite and positive; `name` says whose bound it is.
inline void require_positive_bound(std::string_view name, double value) {
  if (!(std::isfinite(value) && value > 0))
    throw invalid_argument(message("max_grad_norm of ", name, " is ", value, "; give a finite bound above 0"));
}

} // namespace dpopt
