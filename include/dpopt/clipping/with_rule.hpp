// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// What rules around a grouping have in common: groups, bounds and sensitivity are the grouping's; only the way from a
/// norm to a factor differs. So N groupings and M rules are N + M headers.
#pragma once

#include "dpopt/clipping/clipper.hpp"
#include "dpopt/core/error.hpp"

#include <cmath>
#include <span>
#include <utility>

namespace dpopt {

/// Base of automatic, psac and drop_above, which add rule(g) and describe(). Contract for them: factor x norm of group
/// g never exceeds the grouping's bound(g), which makes the grouping's sensitivity theirs.
template <class Inner>
struct with_rule {
  static_assert(Grouping<Inner>,
                "dpopt: a rule (automatic, psac, drop_above) goes around a grouping: flat, per_layer or per_group; put "
                "unit_norm, adaptive and scheduled outside of it, and one rule only.");
  using role = roles::clipper;
  Inner inner = {};

  with_rule() = default;
  explicit with_rule(Inner grouping) : inner(std::move(grouping)) {}

  void bind(std::span<const parameter_info> parameters) { inner.bind(parameters); }
  [[nodiscard]] isize groups() const noexcept { return inner.groups(); }
  [[nodiscard]] isize group_of(isize p) const noexcept { return inner.group_of(p); }
  [[nodiscard]] double bound(isize g) const noexcept { return inner.bound(g); }
  [[nodiscard]] double sensitivity(neighbouring relation) const noexcept { return inner.sensitivity(relation); }
  [[nodiscard]] double clip_norm(isize g) const noexcept
    requires AdjustableClipper<Inner>
  {
    return inner.clip_norm(g);
  }
  void set_clip_norms(std::span<const double> bounds) noexcept
    requires AdjustableClipper<Inner>
  {
    inner.set_clip_norms(bounds);
  }
};

/// @throw invalid_argument unless the option of a rule is a finite number of at least `least`, or above it.
inline void require_rule_option(const char* rule, const char* option, double value, double least, bool above) {
  if (!(std::isfinite(value) && (above ? value > least : value >= least)))
    throw invalid_argument(message(rule, ": ", option, " is ", value, "; give a finite number ",
                                   above ? "above " : "of at least ", least));
}

} // namespace dpopt
