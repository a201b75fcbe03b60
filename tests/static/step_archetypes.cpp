// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Each archetype satisfies its concept, each type below lacks exactly one requirement and is refused for it, and
/// dp_optimizer compiles with archetypes alone: it uses nothing that its concepts do not ask for.
#include "static/step_archetypes.hpp"

#include "dpopt/dp_optimizer/dp_optimizer.hpp"
#include "static/archetypes.hpp"

#include <array>
#include <functional>
#include <string>
#include <vector>

namespace dpopt::archetypes {
namespace {

// ParameterView ----------------------------------------------------------------------------------------------------

static_assert(ParameterView<parameter>);
static_assert(ParameterList<std::vector<parameter>> && ParameterList<std::array<parameter, 2>>);
static_assert(!ParameterList<parameter>);            // one view is no list
static_assert(!ParameterList<std::vector<double*>>); // pointers are no views

struct parameter_without_type : parameter {
private:
  using parameter::value_type;
};
static_assert(!ParameterView<parameter_without_type>); // its value_type is private

struct parameter_of_integers {
  using value_type = int;
  std::string_view name;
  std::span<int> value, gradient;
};
static_assert(!ParameterView<parameter_of_integers>); // integers are not trained

struct parameter_without_name {
  using value_type = double;
  std::span<double> value, gradient;
};
static_assert(!ParameterView<parameter_without_name>); // bounds and errors go by name

struct parameter_with_number : parameter {
  int name = 0;
};
static_assert(!ParameterView<parameter_with_number>); // a number is no name

struct parameter_without_value {
  using value_type = double;
  std::string_view name;
  std::span<double> gradient;
};
static_assert(!ParameterView<parameter_without_value>); // nothing to update

struct parameter_of_constants : parameter {
  std::span<const double> value;
};
static_assert(!ParameterView<parameter_of_constants>); // its values cannot be updated

struct parameter_without_gradient {
  using value_type = double;
  std::string_view name;
  std::span<double> value;
};
static_assert(!ParameterView<parameter_without_gradient>); // it must at least say that it wants none, by an empty span

struct parameter_with_narrow_gradient : parameter {
  std::span<float> gradient;
};
static_assert(!ParameterView<parameter_with_narrow_gradient>); // released gradients have the type of the values

// PerSampleGradients and SampleAccess ------------------------------------------------------------------------------

static_assert(PerSampleGradients<source, double>);
static_assert(!PerSampleGradients<source, float>); // it adds to doubles
static_assert(!SampleAccess<source>);
static_assert(SampleAccess<sample_access>);
static_assert(!PerSampleGradients<sample_access, double>);

struct source_that_owns : source {
  std::vector<double> rows;
};
static_assert(!PerSampleGradients<source_that_owns, double>); // not trivially copyable

struct source_of_192_bytes : source {
  std::array<double, 24> numbers;
};
struct source_of_200_bytes : source {
  std::array<double, 25> numbers;
};
static_assert(PerSampleGradients<source_of_192_bytes, double>);
static_assert(!PerSampleGradients<source_of_200_bytes, double>); // no room to keep it while its group waits

struct source_without_batch : source {
  isize batch() const = delete;
};
static_assert(!PerSampleGradients<source_without_batch, double>); // no batch

struct source_with_int_batch : source {
  [[nodiscard]] int batch() const { return 0; }
};
static_assert(!PerSampleGradients<source_with_int_batch, double>); // a batch of 2^31 would not fit

struct source_without_size : source {
  isize size() const = delete;
};
static_assert(!PerSampleGradients<source_without_size, double>); // no size

struct source_without_block : source {
  isize block() const = delete;
};
static_assert(!PerSampleGradients<source_without_block, double>); // no block

struct source_without_norms : source {
  void add_squared_norms(samples, double*, workspace&) const = delete;
};
static_assert(!PerSampleGradients<source_without_norms, double>); // the first question has no answer

struct source_with_float_norms : source {
  void add_squared_norms(samples, float*, workspace&) const {}
};
static_assert(!PerSampleGradients<source_with_float_norms, double>); // norms are double

struct source_without_sum : source {
  void add_weighted_sum(samples, const double*, double*, workspace&) const = delete;
};
static_assert(!PerSampleGradients<source_without_sum, double>); // the second question has no answer

struct source_that_changes : source {
  void add_weighted_sum(samples, const double*, double*, workspace&) {}
};
static_assert(!PerSampleGradients<source_that_changes, double>); // asked twice it might answer differently

struct access_that_changes {
  void copy_sample(isize, isize, isize, double, double*) {}
};
static_assert(!SampleAccess<access_that_changes>); // not const

struct access_in_float {
  void copy_sample(isize, isize, isize, double, float*) const {}
};
static_assert(!SampleAccess<access_in_float>); // a sample is copied in double

// Clipper ----------------------------------------------------------------------------------------------------------

static_assert(Clipper<clipper>);

struct immovable_clipper : clipper {
  immovable_clipper() = default;
  immovable_clipper(immovable_clipper&&) = delete;
  immovable_clipper& operator=(immovable_clipper&&) = delete;
};
static_assert(!Clipper<immovable_clipper>); // it cannot be moved into the optimizer

struct clipper_without_bind : clipper {
  void bind(std::span<const parameter_info>) = delete;
};
static_assert(!Clipper<clipper_without_bind>); // it could not check its bounds against the parameters

struct clipper_without_groups : clipper {
  isize groups() const = delete;
};
static_assert(!Clipper<clipper_without_groups>); // no groups

struct clipper_with_int_groups : clipper {
  [[nodiscard]] int groups() const { return 1; }
};
static_assert(!Clipper<clipper_with_int_groups>); // sizes are isize

struct clipper_without_group_of : clipper {
  isize group_of(isize) const = delete;
};
static_assert(!Clipper<clipper_without_group_of>); // no group_of

struct clipper_without_rule : clipper {
  rule_of_a_group rule(isize) const = delete;
};
static_assert(!Clipper<clipper_without_rule>); // nothing is bounded

struct clipper_with_float_rule : clipper {
  struct in_float {
    float operator()(double) const { return 0.0F; }
  };
  [[nodiscard]] in_float rule(isize) const { return {}; }
};
static_assert(!Clipper<clipper_with_float_rule>); // factors are double

struct clipper_with_owning_rule : clipper {
  [[nodiscard]] std::function<double(double)> rule(isize) const {
    return [](double) { return 0.0; };
  }
};
static_assert(!Clipper<clipper_with_owning_rule>); // a rule crosses into kernels by value

struct clipper_without_sensitivity : clipper {
  double sensitivity(neighbouring) const = delete;
};
static_assert(!Clipper<clipper_without_sensitivity>); // the noise could not be scaled

struct clipper_with_one_sensitivity : clipper {
  double sensitivity(neighbouring) const = delete;
  [[nodiscard]] double sensitivity() const { return 1.0; }
};
static_assert(!Clipper<clipper_with_one_sensitivity>); // it does not know what neighbours are

struct clipper_that_moves_its_sensitivity : clipper {
  [[nodiscard]] double sensitivity(neighbouring) { return 1.0; }
};
static_assert(!Clipper<clipper_that_moves_its_sensitivity>); // not const

struct clipper_without_description : clipper {
  std::string describe() const = delete;
};
static_assert(!Clipper<clipper_without_description>); // ranks could not compare it

// Accumulator ------------------------------------------------------------------------------------------------------

static_assert(Accumulator<accumulator>);
static_assert(AccumulatesFrom<accumulator, source>);
static_assert(!AccumulatesFrom<accumulator, sample_access>); // it is made for another source

struct immovable_accumulator : accumulator {
  immovable_accumulator() = default;
  immovable_accumulator(immovable_accumulator&&) = delete;
  immovable_accumulator& operator=(immovable_accumulator&&) = delete;
};
static_assert(!Accumulator<immovable_accumulator>); // it cannot be moved into the optimizer

struct accumulator_without_type : accumulator {
private:
  using accumulator::value_type;
};
static_assert(!Accumulator<accumulator_without_type>); // what would cross the wire?

struct accumulator_without_resize : accumulator {
  void resize(isize, double) = delete;
};
static_assert(!Accumulator<accumulator_without_resize>); // no resize

struct accumulator_without_bound : accumulator {
  void resize(isize) {}
  void resize(isize, double) = delete;
};
static_assert(!Accumulator<accumulator_without_bound>); // it does not hear how large a contribution can be

struct accumulator_without_data : accumulator {
  double* data() = delete;
};
static_assert(!Accumulator<accumulator_without_data>); // nothing to reduce

struct accumulator_of_other_data : accumulator {
  [[nodiscard]] float* data() { return nullptr; }
};
static_assert(!Accumulator<accumulator_of_other_data>); // its data is not of its value_type

struct accumulator_without_unit : accumulator {
  double unit() const = delete;
};
static_assert(!Accumulator<accumulator_without_unit>); // no unit

struct accumulator_with_float_unit : accumulator {
  [[nodiscard]] float unit() const { return 1.0F; }
};
static_assert(!Accumulator<accumulator_with_float_unit>); // a unit is double

struct accumulator_without_description : accumulator {
  std::string describe() const = delete;
};
static_assert(!Accumulator<accumulator_without_description>); // ranks could not compare it

// Scaling ----------------------------------------------------------------------------------------------------------

static_assert(Scaling<scaling>);

struct scaling_that_only_moves : scaling {
  scaling_that_only_moves() = default;
  scaling_that_only_moves(scaling_that_only_moves&&) = default;
  scaling_that_only_moves& operator=(scaling_that_only_moves&&) = default;
};
static_assert(!Scaling<scaling_that_only_moves>); // options are copyable values

struct scaling_without_validate : scaling {
  void validate() const = delete;
};
static_assert(!Scaling<scaling_without_validate>); // no validate

struct scaling_without_divisor : scaling {
  double divisor(isize, int) const = delete;
};
static_assert(!Scaling<scaling_without_divisor>); // no divisor

struct scaling_with_float_divisor : scaling {
  [[nodiscard]] float divisor(isize, int) const { return 1.0F; }
};
static_assert(!Scaling<scaling_with_float_divisor>); // a divisor is double

struct scaling_that_counts : scaling {
  [[nodiscard]] double divisor(isize, int) { return 1.0; }
};
static_assert(!Scaling<scaling_that_counts>); // not const: the divisor must not depend on what came before

struct scaling_without_description : scaling {
  std::string describe() const = delete;
};
static_assert(!Scaling<scaling_without_description>); // ranks could not compare it

// Placement --------------------------------------------------------------------------------------------------------

static_assert(Placement<placement>);

struct placement_that_hides_its_need : placement {
private:
  using placement::needs_addressable;
};
static_assert(!Placement<placement_that_hides_its_need>); // does it need the same numbers on every rank?

struct placement_that_hides_its_place : placement {
private:
  using placement::before_reduction;
};
static_assert(!Placement<placement_that_hides_its_place>); // is there noise before the reduction?

struct placement_without_before : placement {
  share before(int, int) const = delete;
};
static_assert(!Placement<placement_without_before>); // no before

struct placement_without_after : placement {
  share after(int, int) const = delete;
};
static_assert(!Placement<placement_without_after>); // no after

struct placement_with_bare_factor : placement {
  [[nodiscard]] double after(int, int) const { return 1.0; }
};
static_assert(!Placement<placement_with_bare_factor>); // a share has a lane

// Schedule ---------------------------------------------------------------------------------------------------------

static_assert(Schedule<schedule>);
struct schedule_of_nothing {};
static_assert(!Schedule<schedule_of_nothing>); // when is clipping done?
struct schedule_of_no_constant {
  bool deferred = false;
};
static_assert(!Schedule<schedule_of_no_constant>); // it is decided when compiling

// The concepts suffice ---------------------------------------------------------------------------------------------

template <class Archetype, class Role>
struct playing : Archetype {
  using role = Role;
};

/// Calls every member of an optimizer once; compiled, never run.
template <class Opt>
[[maybe_unused]] void everything(Opt& opt) {
  opt.begin({});
  opt.gradient_ready(0, source{});
  opt.gradient_absent(0);
  opt.clip_and_accumulate();
  opt.signal_skip_step();
  opt.discard();
  opt.step();
  opt.step([] {});
  opt.step([] { return 1; });
  opt.pre_step();
  opt.pre_step([] {});
  opt.add_noise();
  opt.scale_grad();
  opt.attach_step_hook([](Opt&) {});
  opt.zero_grad();
  static_cast<void>(opt.describe());
  static_cast<void>(opt.privacy_statement(1e-5));
  static_cast<void>(opt.released_gradient(0));
}

template <class... P>
[[maybe_unused]] void compose() {
  dp_optimizer<double, P...> opt(std::vector<parameter>(1), dp_options{}, P{}...);
  everything(opt);
}

} // namespace

// External linkage: GCC calls an explicitly instantiated function of an unnamed namespace unused.
template <class Base, class Noise>
void compose_with() {
  compose<playing<clipper, roles::clipper>, playing<accumulator, roles::accumulator>,
          playing<reducing_communicator, roles::communicator>, playing<Noise, roles::noise>,
          playing<placement, roles::placement>, playing<scaling, roles::scaling>, playing<Base, roles::base_optimizer>,
          playing<accountant, roles::accountant>, playing<schedule, roles::schedule>>();
}
template void compose_with<elementwise_optimizer, noise>();
template void compose_with<whole_parameter_optimizer, secret_noise>();

} // namespace dpopt::archetypes
