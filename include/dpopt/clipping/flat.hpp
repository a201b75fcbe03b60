// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Flat clipping: one norm over all parameters together, one bound.
#pragma once

#include "dpopt/clipping/clipper.hpp"
#include "dpopt/clipping/norm_bound.hpp"

#include <limits>
#include <span>
#include <string>

namespace dpopt {

/// sensitivity = C for add/remove and zero-out, 2 C for replace-one. A sample with a non-finite number anywhere adds
/// nothing anywhere. Factors wait for the last parameter's norm, so sources must stay alive until then.
struct flat {
  using role = roles::clipper;
  double max_grad_norm = std::numeric_limits<double>::quiet_NaN(); ///< C > 0; required

  void bind(std::span<const parameter_info>) { require_positive_bound("flat clipping", max_grad_norm); }
  [[nodiscard]] isize groups() const noexcept { return 1; }
  [[nodiscard]] isize group_of(isize) const noexcept { return 0; }
  [[nodiscard]] norm_bound rule(isize) const noexcept { return {max_grad_norm}; }
  [[nodiscard]] double bound(isize) const noexcept { return max_grad_norm; }
  [[nodiscard]] double clip_norm(isize) const noexcept { return max_grad_norm; }
  void set_clip_norms(std::span<const double> bounds) noexcept { max_grad_norm = bounds[0]; }
  [[nodiscard]] double sensitivity(neighbouring relation) const noexcept {
    return contributions_changed(relation) * max_grad_norm;
  }
  [[nodiscard]] std::string describe() const { return message("flat(max_grad_norm=", max_grad_norm, ")"); }
};

static_assert(AdjustableClipper<flat> && Grouping<flat>);

} // namespace dpopt
