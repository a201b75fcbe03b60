// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The least that the concepts of a step's own stages ask for: parameters, gradients, clipping, accumulation, scaling,
/// placement, schedule. step_archetypes.cpp takes one requirement away at a time and composes an optimizer of them all.
#pragma once

#include "dpopt/accumulation/accumulator.hpp"
#include "dpopt/clipping/clipper.hpp"
#include "dpopt/dp_optimizer/schedule.hpp"
#include "dpopt/gradients/per_sample_gradients.hpp"
#include "dpopt/noise/placement.hpp"
#include "dpopt/parameters/parameter_view.hpp"
#include "dpopt/scaling/scaling.hpp"

#include <span>
#include <string>

namespace dpopt::archetypes {

/// ParameterView: what it holds converts to a name and to spans, and is neither itself.
struct parameter {
  struct text {
    operator std::string_view() const { return "parameter"; } // NOLINT: converts, as the concept says
  };
  struct numbers {
    operator std::span<double>() const { return {}; } // NOLINT
  };
  using value_type = double;

  text name;
  numbers value;
  numbers gradient;
};

/// PerSampleGradients for double, and for no other type.
struct source {
  [[nodiscard]] isize batch() const { return 0; }
  [[nodiscard]] isize size() const { return 0; }
  [[nodiscard]] isize block() const { return 1; }
  void add_squared_norms(samples, double*, workspace&) const {}
  void add_weighted_sum(samples, const double*, double*, workspace&) const {}
};

/// SampleAccess alone.
struct sample_access {
  void copy_sample(isize, isize, isize, double, double*) const {}
};

/// Clipper: movable, not copyable.
struct clipper {
  struct rule_of_a_group {
    double operator()(double) const { return 0.0; }
  };

  clipper() = default;
  clipper(clipper&&) = default;
  clipper& operator=(clipper&&) = default;

  void bind(std::span<const parameter_info>) {}
  [[nodiscard]] isize groups() const { return 1; }
  [[nodiscard]] isize group_of(isize) const { return 0; }
  [[nodiscard]] rule_of_a_group rule(isize) const { return {}; }
  [[nodiscard]] double sensitivity(neighbouring) const { return 1.0; }
  [[nodiscard]] std::string describe() const { return "archetype"; }
};

/// Accumulator in double, from archetypes::source alone: movable, not copyable.
struct accumulator {
  using value_type = double;

  accumulator() = default;
  accumulator(accumulator&&) = default;
  accumulator& operator=(accumulator&&) = default;

  void resize(isize, double) {}
  [[nodiscard]] double* data() { return nullptr; }
  [[nodiscard]] double unit() const { return 1.0; }
  [[nodiscard]] std::string describe() const { return "archetype"; }
  void add(isize, const source&, samples, const double*, workspace&) {}
};

/// Scaling.
struct scaling {
  void validate() const {}
  [[nodiscard]] double divisor(isize, int) const { return 1.0; }
  [[nodiscard]] std::string describe() const { return "archetype"; }
};

/// Placement.
struct placement {
  static constexpr bool needs_addressable = false;
  static constexpr bool before_reduction = false;
  [[nodiscard]] share before(int, int) const { return {}; }
  [[nodiscard]] share after(int, int) const { return {}; }
};

/// Schedule.
struct schedule {
  static constexpr bool deferred = false;
};

} // namespace dpopt::archetypes
