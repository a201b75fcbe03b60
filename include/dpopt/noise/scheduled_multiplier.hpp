// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// A noise multiplier that follows a schedule: in the step after t releases it is the mechanism's own times
/// schedule(t).
///
/// Privacy: the schedule is public, and the accountant is told the multiplier that the step really used.
#pragma once

#include "dpopt/core/schedules.hpp"
#include "dpopt/core/types.hpp"
#include "dpopt/noise/counter_gaussian.hpp"
#include "dpopt/noise/multiplier.hpp"
#include "dpopt/noise/noise_mechanism.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>

namespace dpopt {

/// scheduled_multiplier{counter_gaussian{1.1}, exponential_decay{0.999}}. NoiseMechanism of the same kind, addressable
/// and secret as the mechanism inside is. All state of its own follows from t, which the optimizer tells at
/// construction and before each step.
template <class Noise, StepSchedule Schedule>
struct scheduled_multiplier {
  static_assert(!FollowsSteps<Noise>, "dpopt: one schedule is enough: multiply two into a lambda_schedule.");
  static_assert(
      !CorrelatedNoise<Noise>,
      "dpopt: correlated noise is one mechanism over the whole run, whose multiplier cannot follow a schedule.");
  using role = roles::noise;
  static constexpr bool addressable = AddressableNoise<Noise>;
  static constexpr noise_kind kind = noise_kind_of<Noise>;

  Noise inner;
  Schedule schedule;

  scheduled_multiplier(Noise mechanism, Schedule over_steps)
      : inner(std::move(mechanism)), schedule(std::move(over_steps)) {}

  /// @param t Steps released so far. @throw invalid_argument when the schedule has no multiplier for t.
  void start_step(std::uint64_t t) {
    const double factor = value_at(schedule, t);
    require_multiplier(inner.multiplier() * factor); // which may overflow
    factor_ = factor;
  }

  /// Of the coming step.
  [[nodiscard]] double multiplier() const noexcept { return inner.multiplier() * factor_; }
  /// Over all steps: infinity when the schedule does not say.
  [[nodiscard]] double greatest_multiplier() const noexcept {
    return inner.multiplier() > 0 ? inner.multiplier() * schedule.greatest() : 0;
  }

  /// @throw invalid_argument as the mechanism and the schedule do.
  void validate() {
    inner.validate();
    schedule.validate();
    start_step(0);
  }

  [[nodiscard]] std::string describe() const {
    std::string mechanism = "noise";
    if constexpr (requires { inner.describe(); }) mechanism = inner.describe();
    return message("scheduled_multiplier(", mechanism, ", first ", inner.multiplier(), ", ", schedule.describe(), ")");
  }

  /// As the mechanism inside: std_in_units already holds the multiplier.
  template <class V>
    requires NoiseMechanism<Noise, V>
  void add(const address& where, double std_in_units, V* x, isize count) {
    inner.add(where, std_in_units, x, count);
  }
  template <class V>
  void add(const address& where, double std_in_units, V* x, isize count) const
    requires requires(const Noise n) { n.add(where, std_in_units, x, count); } // then threads and devices may draw it
  {
    inner.add(where, std_in_units, x, count);
  }

  /// As the mechanism inside, if it says which standard deviations it can add.
  void require_std(double std_in_units) const
    requires requires(const Noise n) { n.require_std(std_in_units); }
  {
    inner.require_std(std_in_units);
  }

  void draw_secret()
    requires SharesSecret<Noise>
  {
    inner.draw_secret();
  }
  void renew_secret()
    requires requires(Noise n) { n.renew_secret(); }
  {
    inner.renew_secret();
  }
  [[nodiscard]] std::span<std::byte> secret() noexcept
    requires SharesSecret<Noise>
  {
    return inner.secret();
  }
  [[nodiscard]] bool reproducible() const noexcept
    requires requires(const Noise n) { n.reproducible(); }
  {
    return inner.reproducible();
  }

private:
  double factor_ = 1; // of the coming step
};

static_assert(NoiseMechanism<scheduled_multiplier<counter_gaussian, exponential_decay>, float>);
static_assert(NoiseMechanism<scheduled_multiplier<counter_gaussian, exponential_decay>, double>);
static_assert(AddressableNoise<scheduled_multiplier<counter_gaussian, exponential_decay>>);
static_assert(SharesSecret<scheduled_multiplier<counter_gaussian, exponential_decay>>);

} // namespace dpopt
