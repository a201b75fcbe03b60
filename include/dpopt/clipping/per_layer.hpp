// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Per-layer clipping as in Opacus: each parameter is a group of its own with a bound of its own (McMahan et al. 2018,
/// arXiv 1710.06963, per-layer clipping).
#pragma once

#include "dpopt/clipping/clip_bounds.hpp"
#include "dpopt/clipping/clipper.hpp"

#include <algorithm>
#include <span>
#include <string>
#include <vector>

namespace dpopt {

/// sensitivity = sqrt(sum of C_l^2) for add/remove and zero-out, twice that for replace-one. A non-finite number in one
/// layer drops the sample from that layer; give it weight 0 to drop it everywhere. Each parameter is clipped as soon as
/// it arrives.
struct per_layer {
  using role = roles::clipper;
  clip_bounds max_grad_norm; ///< C_l; required

  void bind(std::span<const parameter_info> parameters) { bounds_ = max_grad_norm.resolve(parameters); }
  [[nodiscard]] isize groups() const noexcept { return static_cast<isize>(bounds_.size()); }
  [[nodiscard]] isize group_of(isize p) const noexcept { return p; }
  [[nodiscard]] norm_bound rule(isize g) const noexcept { return {bounds_[static_cast<std::size_t>(g)]}; }
  [[nodiscard]] double bound(isize g) const noexcept { return bounds_[static_cast<std::size_t>(g)]; }
  [[nodiscard]] double clip_norm(isize g) const noexcept { return bound(g); }
  void set_clip_norms(std::span<const double> bounds) noexcept { std::ranges::copy(bounds, bounds_.begin()); }
  [[nodiscard]] double sensitivity(neighbouring relation) const noexcept {
    return contributions_changed(relation) * joint_bound(bounds_);
  }
  [[nodiscard]] std::string describe() const {
    std::string out = "per_layer(max_grad_norm=[";
    for (std::size_t p = 0; p < bounds_.size(); ++p) out += message(p == 0 ? "" : ", ", bounds_[p]);
    return out + "])";
  }

  std::vector<double> bounds_ = {}; ///< filled by bind(); one a parameter
};

static_assert(AdjustableClipper<per_layer> && Grouping<per_layer>);

} // namespace dpopt
