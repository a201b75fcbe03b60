// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Schedules of a bound or a noise multiplier over the steps, as factors of its first value. Satisfied by
/// exponential_decay, step_decay, cosine_decay, lambda_schedule.
///
/// A schedule is a pure function of t, the number of steps released so far: a checkpoint needs no state of it but t.
/// Privacy: schedules are public and never look at data; each step is noised and charged with the values of its t.
#pragma once

#include "dpopt/core/error.hpp"
#include "dpopt/core/portable_functions.hpp"

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <functional>
#include <limits>
#include <string>

namespace dpopt {

template <class S>
concept StepSchedule = std::copyable<S> && requires(const S s, std::uint64_t t) {
  s.validate();                             // throws invalid_argument
  { s(t) } -> std::same_as<double>;         // > 0 and alike on all ranks
  { s.greatest() } -> std::same_as<double>; // bound on s(t) for all t; may be infinity
  { s.describe() } -> std::same_as<std::string>;
};

/// A policy that the optimizer tells how many steps were released: at construction, after each step, and before the
/// first begin() of a step. A step that failed before its release is told the same number again.
template <class P>
concept FollowsSteps = requires(P p, std::uint64_t t) {
  p.start_step(t); // throws invalid_argument when nothing sensible is scheduled for t
};

/// s(t), checked. @throw invalid_argument unless it is a finite number above 0 and at most s.greatest().
template <StepSchedule S>
[[nodiscard]] double value_at(const S& schedule, std::uint64_t t) {
  const double value = schedule(t);
  if (!(std::isfinite(value) && value > 0 && value <= schedule.greatest()))
    throw invalid_argument(message("schedule ", schedule.describe(), " gives ", value, " at step ", t,
                                   "; it must stay a finite number above 0 and not exceed ", schedule.greatest()));
  return value;
}

namespace detail {
inline void require_schedule_factor(const char* schedule, const char* name, double value) {
  if (!(std::isfinite(value) && value > 0))
    throw invalid_argument(message(schedule, ": ", name, " is ", value, "; give a finite number above 0"));
}
} // namespace detail

/// gamma^t.
struct exponential_decay {
  double gamma = std::numeric_limits<double>::quiet_NaN(); ///< above 0, usually just below 1; required

  void validate() const { detail::require_schedule_factor("exponential_decay", "gamma", gamma); }
  [[nodiscard]] double operator()(std::uint64_t t) const noexcept { return portable_power(gamma, t); }
  [[nodiscard]] double greatest() const noexcept { return gamma <= 1 ? 1 : std::numeric_limits<double>::infinity(); }
  [[nodiscard]] std::string describe() const { return message("exponential_decay(gamma=", gamma, ")"); }
};

/// gamma^floor(t / every).
struct step_decay {
  std::uint64_t every = 0;                                 ///< steps between two changes; required
  double gamma = std::numeric_limits<double>::quiet_NaN(); ///< above 0; required

  void validate() const {
    detail::require_schedule_factor("step_decay", "gamma", gamma);
    if (every == 0) throw invalid_argument("step_decay: every is 0; give the number of steps between two changes");
  }
  [[nodiscard]] double operator()(std::uint64_t t) const noexcept { return portable_power(gamma, t / every); }
  [[nodiscard]] double greatest() const noexcept { return gamma <= 1 ? 1 : std::numeric_limits<double>::infinity(); }
  [[nodiscard]] std::string describe() const { return message("step_decay(every=", every, ", gamma=", gamma, ")"); }
};

/// From 1 to `floor` along half a cosine: floor + (1 - floor) (1 + cos(pi t / total)) / 2, and floor from `total` on.
struct cosine_decay {
  std::uint64_t total = 0;                                 ///< steps until the floor is reached; required
  double floor = std::numeric_limits<double>::quiet_NaN(); ///< above 0; required. Above 1 it is a rise

  void validate() const {
    detail::require_schedule_factor("cosine_decay", "floor", floor);
    if (total == 0) throw invalid_argument("cosine_decay: total is 0; give the number of steps until the floor");
  }
  [[nodiscard]] DPOPT_NO_CONTRACT double operator()(std::uint64_t t) const noexcept {
    DPOPT_NO_CONTRACT_BLOCK
    if (t >= total) return floor;
    const double along = (1 + portable_cos_pi(static_cast<double>(t) / static_cast<double>(total))) / 2;
    return std::min(greatest(), floor + (1 - floor) * along);
  }
  [[nodiscard]] double greatest() const noexcept { return std::max(1.0, floor); }
  [[nodiscard]] std::string describe() const { return message("cosine_decay(total=", total, ", floor=", floor, ")"); }
};

/// Any function of t, pure and alike on all ranks. What needs to know the greatest value beforehand (the integer grid,
/// a clipper that learns) refuses it unless `greatest_value` is given.
struct lambda_schedule {
  std::function<double(std::uint64_t)> function;                   ///< required
  double greatest_value = std::numeric_limits<double>::infinity(); ///< exceeding it is an error of that step

  void validate() const {
    if (!function) throw invalid_argument("lambda_schedule: there is no function; give one from the step to a factor");
    if (!(greatest_value > 0))
      throw invalid_argument(message("lambda_schedule: greatest_value is ", greatest_value, "; give a number above 0"));
  }
  [[nodiscard]] double operator()(std::uint64_t t) const { return function(t); }
  [[nodiscard]] double greatest() const noexcept { return greatest_value; }
  [[nodiscard]] std::string describe() const { return message("lambda_schedule(greatest_value=", greatest_value, ")"); }
};

static_assert(StepSchedule<exponential_decay> && StepSchedule<step_decay> && StepSchedule<cosine_decay>);
static_assert(StepSchedule<lambda_schedule>);

} // namespace dpopt
