// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Flat clipping: one norm over all parameters together, one bound.
#pragma once

#include "dpopt/clipping/clipper.hpp"
#include "dpopt/clipping/norm_bound.hpp"

#include <limits>

namespace dpopt {

/// sensitivity = C for add/remove, 2 C for replace-one. A sample with a non-finite number anywhere adds nothing
/// anywhere. Factors wait for the last parameter's norm, so sources must stay alive until then.
struct flat {
  using role = roles::clipper;
  double max_grad_norm = std::numeric_limits<double>::quiet_NaN(); ///< C > 0; required

  void bind(std::span<const parameter_info>) { require_positive_bound("flat clipping", max_grad_norm); }
  [[nodiscard]] isize groups() const noexcept { return 1; }
  [[nodiscard]] isize group_of(isize) const noexcept { return 0; }
  [[nodiscard]] norm_bound rule(isize) const noexcept { return {max_grad_norm}; }
  [[nodiscard]] double bound(isize) const noexcept { return max_grad_norm; }
  [[nodiscard]] double sensitivity(neighbouring relation) const noexcept {
    return relation == neighbouring::replace_one ? 2 * max_grad_norm : max_grad_norm;
  }
  [[nodiscard]] std::string describe() const { return message("flat(max_grad_norm=", max_grad_norm, ")"); }
};

static_assert(BoundedClipper<flat>);

} // namespace dpopt
