// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The least that correlated noise and its strategies ask for: each archetype satisfies its concept, correlated and
/// dp_optimizer compile with them, and each type below lacks exactly one requirement and is refused for it.
#include "dpopt/dp_optimizer/dp_optimizer.hpp"
#include "dpopt/noise/correlated.hpp"
#include "static/archetypes.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace dpopt::archetypes {
namespace {

/// NoiseStrategy, and neither kind of it.
struct strategy {
  void validate(const run_plan&) {}
  [[nodiscard]] double sensitivity(const run_plan&) const { return 1.0; }
  void start_row(std::uint64_t) {}
  [[nodiscard]] double row_norm() const { return 1.0; }
  template <class F>
  void visit_state(F&&) {}
  [[nodiscard]] std::string describe() const { return "strategy"; }
};

struct regenerating : strategy {
  [[nodiscard]] std::span<const stream_term> terms() const { return {}; }
};

struct storing : strategy {
  using state_type = double;
  void bind(isize) {}
  void advance(isize, double*, isize) {}
  [[nodiscard]] std::span<const stored_term> terms() const { return {}; }
  [[nodiscard]] const double* vector(isize) const { return nullptr; }
};

/// CorrelatedNoise for double.
struct run_noise : addressable_noise {
  using role = roles::noise;
  void bind(std::span<const isize>, isize) {}
  void require_row(std::uint64_t) {}
  void start_row(std::uint64_t) {}
  [[nodiscard]] double run_multiplier() const { return 1.0; }
  [[nodiscard]] double row_norm() const { return 1.0; }
};

static_assert(NoiseStrategy<strategy> && !RegeneratingStrategy<strategy> && !StoringStrategy<strategy>);
static_assert(RegeneratingStrategy<regenerating> && !StoringStrategy<regenerating>);
static_assert(StoringStrategy<storing> && !RegeneratingStrategy<storing>);
static_assert(NumbersFor<storing, double> && NumbersFor<storing, float> && NumbersFor<regenerating, double>);
static_assert(CorrelatedNoise<run_noise> && !CorrelatedNoise<addressable_noise>);
static_assert(CorrelatedNoise<correlated<addressable_noise, regenerating>>);
static_assert(CorrelatedNoise<correlated<secret_noise, storing>> && SharesSecret<correlated<secret_noise, storing>>);

// A step with the least of correlated noise.
template <class Noise>
void compose_with(Noise noise) {
  std::vector<double> value(1);
  const std::vector<parameter_view<double>> views{{"value", value}};
  dp_optimizer opt(views, dp_options{}, flat{1.0}, std::move(noise), sgd{});
  opt.begin({.samples = 0});
  opt.step();
}
[[maybe_unused]] void compose() {
  compose_with(run_noise{});
  compose_with(correlated(addressable_noise{}, regenerating{}, run_plan::once(1)));
  compose_with(correlated(secret_noise{}, storing{}, run_plan::once(1)));
}

// One requirement less -----------------------------------------------------------------------------------------------

struct strategy_without_validate : regenerating {
  void validate(const run_plan&) = delete;
};
static_assert(!NoiseStrategy<strategy_without_validate>); // bad coefficients would go unseen

struct strategy_without_sensitivity : regenerating {
  double sensitivity(const run_plan&) const = delete;
};
static_assert(!NoiseStrategy<strategy_without_sensitivity>); // the noise could not be scaled

struct strategy_without_rows : regenerating {
  void start_row(std::uint64_t) = delete;
};
static_assert(!NoiseStrategy<strategy_without_rows>); // nothing would be correlated

struct strategy_without_norm : regenerating {
  double row_norm() const = delete;
};
static_assert(!NoiseStrategy<strategy_without_norm>); // the std of a release would be unknown

struct strategy_without_state : regenerating {
  template <class F>
  void visit_state(F&&) = delete;
};
static_assert(!NoiseStrategy<strategy_without_state>); // no checkpoint could continue it

struct strategy_without_description : regenerating {
  std::string describe() const = delete;
};
static_assert(!NoiseStrategy<strategy_without_description>); // ranks could differ unseen

struct strategy_with_other_terms : strategy {
  [[nodiscard]] std::vector<stream_term> terms() const { return {}; }
};
static_assert(!RegeneratingStrategy<strategy_with_other_terms>); // a copy for each tile

struct storing_without_bind : storing {
  void bind(isize) = delete;
};
static_assert(!StoringStrategy<storing_without_bind>); // it could not know how much to keep

struct storing_without_advance : storing {
  void advance(isize, double*, isize) = delete;
};
static_assert(!StoringStrategy<storing_without_advance>); // it would never be given numbers

struct storing_without_vector : storing {
  const double* vector(isize) const = delete;
};
static_assert(!StoringStrategy<storing_without_vector>); // nothing could be added

struct storing_integers : storing {
  using state_type = int;
};
static_assert(!StoringStrategy<storing_integers>); // real noise is not kept in integers

struct storing_floats : strategy {
  using state_type = float;
  void bind(isize) {}
  void advance(isize, float*, isize) {}
  [[nodiscard]] std::span<const stored_term> terms() const { return {}; }
  [[nodiscard]] const float* vector(isize) const { return nullptr; }
};
static_assert(StoringStrategy<storing_floats> && NumbersFor<storing_floats, float> &&
              !NumbersFor<storing_floats, double>);

struct noise_without_bind : run_noise {
  void bind(std::span<const isize>, isize) = delete;
};
static_assert(!CorrelatedNoise<noise_without_bind>);

struct noise_without_question : run_noise {
  void require_row(std::uint64_t) = delete;
};
static_assert(!CorrelatedNoise<noise_without_question>); // a row too many would be noticed after the reduction

struct noise_without_row : run_noise {
  void start_row(std::uint64_t) = delete;
};
static_assert(!CorrelatedNoise<noise_without_row>);

struct noise_without_run_multiplier : run_noise {
  double run_multiplier() const = delete;
};
static_assert(!CorrelatedNoise<noise_without_run_multiplier>); // the accountant could not be told

struct noise_without_row_norm : run_noise {
  double row_norm() const = delete;
};
static_assert(!CorrelatedNoise<noise_without_row_norm>);

} // namespace
} // namespace dpopt::archetypes

// Every member that is no template.
template class dpopt::correlated<dpopt::archetypes::addressable_noise, dpopt::archetypes::regenerating>;
template class dpopt::correlated<dpopt::archetypes::secret_noise, dpopt::archetypes::storing>;
