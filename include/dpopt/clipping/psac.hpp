// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Per-sample adaptive clipping (Xia et al., AAAI 2023, arXiv 2212.00328, "DP-PSAC"): normalization that gives short
/// gradients less weight than automatic does.
///
/// When to use: as automatic, where the many short gradients of samples already learned would drown the rest.
#pragma once

#include "dpopt/clipping/flat.hpp"
#include "dpopt/clipping/with_rule.hpp"
#include "dpopt/core/platform.hpp"

#include <cmath>
#include <span>
#include <string>
#include <utility>

namespace dpopt {

/// factor = C / (norm + r / (norm + r)): near C / norm for long gradients and C for a zero one; with r < 1 it is
/// greatest at norm sqrt(r) - r, where it is C / (2 sqrt(r) - r).
///
/// Bounded by C: norm >= 0 and r > 0 make r / (norm + r) a number in (0, 1], so the denominator exceeds norm, hence
/// factor x norm = C norm / (norm + r / (norm + r)) < C. A norm that is not finite gives 0.
struct psac_rule {
  double bound = 0;
  double r = 0;

  [[nodiscard]] DPOPT_DEVICE double operator()(double norm) const noexcept {
    return std::isfinite(norm) ? bound / (norm + r / (norm + r)) : 0;
  }
};

/// psac{flat{1.0}}, psac{per_layer{0.1}, 0.01}. Sensitivity is the grouping's.
template <class Inner>
struct psac : with_rule<Inner> {
  double r = 0.1; ///< above 0, usually below 1, in the gradient's unit

  psac() = default;
  explicit psac(Inner grouping, double regulator = 0.1) : with_rule<Inner>(std::move(grouping)), r(regulator) {}

  /// @throw invalid_argument on an r that is not above 0, and as the grouping does.
  void bind(std::span<const parameter_info> parameters) {
    require_rule_option("psac", "r", r, 0, true);
    this->inner.bind(parameters);
  }
  [[nodiscard]] psac_rule rule(isize g) const noexcept { return {this->inner.bound(g), r}; }
  [[nodiscard]] std::string describe() const { return message("psac(", this->inner.describe(), ", r=", r, ")"); }
};

static_assert(AdjustableClipper<psac<flat>> && !Grouping<psac<flat>>);

} // namespace dpopt
