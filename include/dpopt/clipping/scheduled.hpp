// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Bounds that follow a schedule: in the step after t releases every bound is its first value times schedule(t).
///
/// Privacy: the schedule is public, and noise follows the sensitivity of the step it is in, so a release costs the same
/// whatever the bound. The noise multiplier has a schedule of its own, scheduled_multiplier.
#pragma once

#include "dpopt/clipping/clipper.hpp"
#include "dpopt/clipping/flat.hpp"
#include "dpopt/core/schedules.hpp"

#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace dpopt {

/// scheduled{flat{1.0}, exponential_decay{0.999}}, scheduled{automatic{per_layer{0.1}}, step_decay{100, 0.5}}. All
/// state follows from t, which the optimizer tells at construction and before each step.
template <class Inner, StepSchedule Schedule>
struct scheduled {
  static_assert(
      AdjustableClipper<Inner>,
      "dpopt: scheduled moves the bounds of flat, per_layer or per_group, plain or with a rule or unit_norm around "
      "them; only norm_quantiles goes around it, and never adaptive.");
  using role = roles::clipper;
  Inner inner = {};
  Schedule schedule = {};

  scheduled() = default;
  scheduled(Inner clipper, Schedule over_steps) : inner(std::move(clipper)), schedule(std::move(over_steps)) {}

  /// @throw invalid_argument as the inner clipper and the schedule do.
  void bind(std::span<const parameter_info> parameters) {
    if (!first_.empty()) inner.set_clip_norms(first_); // what was given, not what the last step had
    inner.bind(parameters);
    schedule.validate();
    first_.clear();
    for (isize g = 0; g < inner.groups(); ++g) first_.push_back(inner.clip_norm(g));
    text_ = inner.describe();
    apply(schedule.greatest());
    greatest_ = inner.sensitivity(neighbouring::add_remove);
    start_step(0);
  }

  /// @param t Steps released so far. @throw invalid_argument when the schedule has no bound above 0 for t.
  void start_step(std::uint64_t t) { apply(value_at(schedule, t)); }

  [[nodiscard]] isize groups() const noexcept { return inner.groups(); }
  [[nodiscard]] isize group_of(isize p) const noexcept { return inner.group_of(p); }
  [[nodiscard]] auto rule(isize g) const noexcept { return inner.rule(g); }
  [[nodiscard]] double bound(isize g) const noexcept { return inner.bound(g); }
  [[nodiscard]] double sensitivity(neighbouring relation) const noexcept { return inner.sensitivity(relation); }
  /// For add/remove, over all steps: infinity when the schedule does not say.
  [[nodiscard]] double greatest_sensitivity() const noexcept { return greatest_; }
  /// The configuration, the same at every step.
  [[nodiscard]] std::string describe() const {
    return message("scheduled(", text_.empty() ? inner.describe() : text_, ", ", schedule.describe(), ")");
  }

private:
  void apply(double factor) {
    std::vector<double> now = first_;
    for (double& c : now) c *= factor;
    inner.set_clip_norms(now);
  }

  std::vector<double> first_; // bounds at factor 1; from bind() on
  std::string text_;          // of the inner clipper with them
  double greatest_ = 0;
};

static_assert(BoundedClipper<scheduled<flat, exponential_decay>> && FollowsSteps<scheduled<flat, exponential_decay>>);
static_assert(!AdjustableClipper<scheduled<flat, exponential_decay>>);

} // namespace dpopt
