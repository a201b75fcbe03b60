// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Automatic clipping: every gradient is normalized to nearly its bound (Bu et al. 2023, arXiv 2206.07136, "AUTO-S"),
/// flat or by group.
///
/// When to use: C no longer needs tuning, since it only scales the update as the learning rate does. When not: where
/// short gradients, those of samples already learned, must keep their small weight.
#pragma once

#include "dpopt/clipping/flat.hpp"
#include "dpopt/clipping/with_rule.hpp"
#include "dpopt/core/platform.hpp"

#include <cmath>
#include <span>
#include <string>
#include <utility>

namespace dpopt {

/// factor = C / (norm + gamma), C / gamma for a zero gradient. factor x norm < C as gamma > 0. A norm that is not
/// finite gives 0.
struct automatic_rule {
  double bound = 0;
  double gamma = 0;

  [[nodiscard]] DPOPT_DEVICE double operator()(double norm) const noexcept {
    return std::isfinite(norm) ? bound / (norm + gamma) : 0;
  }
};

/// automatic{flat{1.0}}, automatic{per_layer{0.1}, 0.001}. Sensitivity is the grouping's.
template <class Inner>
struct automatic : with_rule<Inner> {
  double gamma = 0.01; ///< above 0, in the gradient's unit: gradients well below it keep their relative lengths

  automatic() = default;
  explicit automatic(Inner grouping, double stability = 0.01)
      : with_rule<Inner>(std::move(grouping)), gamma(stability) {}

  /// @throw invalid_argument on a gamma that is not above 0, and as the grouping does.
  void bind(std::span<const parameter_info> parameters) {
    require_rule_option("automatic", "gamma", gamma, 0, true);
    this->inner.bind(parameters);
  }
  [[nodiscard]] automatic_rule rule(isize g) const noexcept { return {this->inner.bound(g), gamma}; }
  [[nodiscard]] std::string describe() const {
    return message("automatic(", this->inner.describe(), ", gamma=", gamma, ")");
  }
};

static_assert(AdjustableClipper<automatic<flat>> && !Grouping<automatic<flat>>);

} // namespace dpopt
