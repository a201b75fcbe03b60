// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// "Global clipping" (Bu et al. 2021, arXiv 2106.07830): one factor for all gradients up to a norm Z, and longer
/// ones are dropped. Not to be confused with one norm over all parameters, which is flat.
///
/// When to use: all kept gradients point where their plain sum does, which helps calibration. When not: where the
/// longest gradients are the informative ones.
#pragma once

#include "dpopt/clipping/flat.hpp"
#include "dpopt/clipping/with_rule.hpp"
#include "dpopt/core/platform.hpp"

#include <algorithm>
#include <optional>
#include <span>
#include <string>
#include <utility>

namespace dpopt {

/// factor = C / Z (1 for C > Z) if norm <= Z, else 0; so factor x norm <= C. Not finite is above Z.
struct drop_above_rule {
  double factor = 0;
  double limit = 0; ///< Z

  [[nodiscard]] DPOPT_DEVICE double operator()(double norm) const noexcept { return norm <= limit ? factor : 0; }
};

/// Z by itself, as the paper has it.
struct norm_limit {
  double value = 0;
};

/// Z = ratio x C with each group's C, so that Z follows a bound that moves: drop_above{flat{0.5}, 20.0} divides
/// gradients of norm 10 or less by 20 and drops the rest. drop_above{flat{0.5}, norm_limit{10}} does the same with a Z
/// that stands still, alike for all groups; a bound that moves beyond it leaves kept gradients as they are (factor 1).
/// Sensitivity is the grouping's.
template <class Inner>
struct drop_above : with_rule<Inner> {
  double ratio = 1;                ///< Z / C, 1 or more
  std::optional<norm_limit> limit; ///< Z; takes the place of the ratio

  drop_above() = default;
  explicit drop_above(Inner grouping, double limit_over_bound)
      : with_rule<Inner>(std::move(grouping)), ratio(limit_over_bound) {}
  explicit drop_above(Inner grouping, norm_limit z) : with_rule<Inner>(std::move(grouping)), limit(z) {}

  /// @throw invalid_argument on a Z below C, and as the grouping does.
  void bind(std::span<const parameter_info> parameters) {
    if (!limit) require_rule_option("drop_above", "ratio", ratio, 1, false);
    this->inner.bind(parameters);
    for (isize g = 0; limit && g < this->groups(); ++g)
      require_rule_option("drop_above", "norm_limit", limit->value, this->bound(g), false);
  }
  [[nodiscard]] drop_above_rule rule(isize g) const noexcept {
    if (limit) return {std::min(1.0, this->bound(g) / limit->value), limit->value};
    return {1 / ratio, ratio * this->bound(g)};
  }
  [[nodiscard]] std::string describe() const {
    return message("drop_above(", this->inner.describe(),
                   limit ? ", norm_limit=" : ", ratio=", limit ? limit->value : ratio, ")");
  }
};

static_assert(AdjustableClipper<drop_above<flat>> && !Grouping<drop_above<flat>>);

} // namespace dpopt
