// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Each archetype satisfies its concept, and each type below lacks exactly one requirement and is refused for it.
#include "static/archetypes.hpp"

#include <string>

namespace dpopt::archetypes {
namespace {

// Communicator -----------------------------------------------------------------------------------------------------

static_assert(Communicator<communicator>);
static_assert(!Reduces<communicator, double>); // it has no start_sum
static_assert(Communicator<reducing_communicator>);
static_assert(Reduces<reducing_communicator, double>);
static_assert(!Reduces<reducing_communicator, float>);   // float* is not double*
static_assert(!Scatters<reducing_communicator, double>); // sums whole buffers only
static_assert(Scatters<scattering_communicator, double>);

struct immovable_communicator : communicator {
  immovable_communicator() = default;
  immovable_communicator(immovable_communicator&&) = delete;
  immovable_communicator& operator=(immovable_communicator&&) = delete;
};
static_assert(!Communicator<immovable_communicator>); // it cannot be moved into the optimizer

struct communicator_without_request : communicator {
private:
  using request = communicator::request;
};
static_assert(!Communicator<communicator_without_request>); // its request is private

struct communicator_without_rank : communicator {
  int rank() const = delete;
};
static_assert(!Communicator<communicator_without_rank>); // no rank

struct communicator_with_mutable_rank : communicator {
  int rank() { return 0; }
};
static_assert(!Communicator<communicator_with_mutable_rank>); // rank() is not const

struct communicator_without_size : communicator {
  int size() const = delete;
};
static_assert(!Communicator<communicator_without_size>); // no size

struct communicator_with_unsigned_size : communicator {
  [[nodiscard]] unsigned size() const { return 1; }
};
static_assert(!Communicator<communicator_with_unsigned_size>); // size() is not an int

struct communicator_without_broadcast : communicator {
  void broadcast(std::byte*, isize, int) = delete;
};
static_assert(!Communicator<communicator_without_broadcast>); // no broadcast

struct communicator_without_wait : reducing_communicator {
  void wait(request&) = delete;
};
static_assert(!Reduces<communicator_without_wait, double>); // no wait

struct communicator_that_blocks : reducing_communicator {
  void start_sum(double*, isize) {}
};
static_assert(!Reduces<communicator_that_blocks, double>); // start_sum returns no request

// NoiseMechanism ---------------------------------------------------------------------------------------------------

static_assert(NoiseMechanism<noise, double>);
static_assert(!NoiseMechanism<noise, std::int64_t>); // Gaussians on reals are not noise for an integer grid
static_assert(!AddressableNoise<noise>);             // it does not say so
static_assert(!SharesSecret<noise>);                 // it has no secret
static_assert(NoiseMechanism<addressable_noise, double> && AddressableNoise<addressable_noise>);
static_assert(NoiseMechanism<secret_noise, double> && AddressableNoise<secret_noise> && SharesSecret<secret_noise>);

struct noise_without_multiplier : noise {
  double multiplier() const = delete;
};
static_assert(!NoiseMechanism<noise_without_multiplier, double>); // the accountant could not be told

struct noise_with_float_multiplier : noise {
  [[nodiscard]] float multiplier() const { return 1.0F; }
};
static_assert(!NoiseMechanism<noise_with_float_multiplier, double>); // a float multiplier is not what was accounted

struct noise_without_validate : noise {
  void validate() = delete;
};
static_assert(!NoiseMechanism<noise_without_validate, double>); // no validate

struct noise_without_add : noise {
  void add(const address&, double, double*, isize) = delete;
};
static_assert(!NoiseMechanism<noise_without_add, double>); // no add

struct noise_not_addressable : noise {
  static constexpr bool addressable = false;
};
static_assert(!AddressableNoise<noise_not_addressable>); // it says that it is not

struct noise_without_draw : secret_noise {
  void draw_secret() = delete;
};
static_assert(!SharesSecret<noise_without_draw>); // the root could draw nothing

struct noise_with_const_secret : secret_noise {
  [[nodiscard]] std::span<const std::byte> secret() const { return bytes; }
};
static_assert(!SharesSecret<noise_with_const_secret>); // the other ranks could not be given the secret

struct noise_without_reproducible : secret_noise {
  bool reproducible() const = delete;
};
static_assert(!SharesSecret<noise_without_reproducible>); // a seeded run could not be flagged

// BaseOptimizer ----------------------------------------------------------------------------------------------------

static_assert(ElementwiseOptimizer<elementwise_optimizer, double>);
static_assert(!ElementwiseOptimizer<elementwise_optimizer, float>); // it updates doubles
static_assert(!WholeParameterOptimizer<elementwise_optimizer, double>);
static_assert(WholeParameterOptimizer<whole_parameter_optimizer, double>);
static_assert(!ElementwiseOptimizer<whole_parameter_optimizer, double>);
static_assert(BaseOptimizer<elementwise_optimizer, double> && BaseOptimizer<whole_parameter_optimizer, double>);

struct optimizer_that_only_moves : elementwise_optimizer {
  optimizer_that_only_moves() = default;
  optimizer_that_only_moves(optimizer_that_only_moves&&) = default;
  optimizer_that_only_moves& operator=(optimizer_that_only_moves&&) = default;
};
static_assert(!ElementwiseOptimizer<optimizer_that_only_moves, double>); // options are copyable values

struct optimizer_without_slots : elementwise_optimizer {
private:
  using elementwise_optimizer::slots;
};
static_assert(!ElementwiseOptimizer<optimizer_without_slots, double>); // its slots are private

struct optimizer_without_validate : elementwise_optimizer {
  void validate() const = delete;
};
static_assert(!ElementwiseOptimizer<optimizer_without_validate, double>); // no validate

struct optimizer_without_constants : elementwise_optimizer {
  constants at(std::uint64_t) const = delete;
};
static_assert(!ElementwiseOptimizer<optimizer_without_constants, double>); // no at

struct optimizer_without_update : elementwise_optimizer {
  struct nothing {};
  [[nodiscard]] nothing at(std::uint64_t) const { return {}; }
};
static_assert(!ElementwiseOptimizer<optimizer_without_update, double>); // at() gives nothing that updates

struct optimizer_with_string_constants : elementwise_optimizer {
  struct named : constants {
    std::string name;
  };
  [[nodiscard]] named at(std::uint64_t) const { return {}; }
};
static_assert(!ElementwiseOptimizer<optimizer_with_string_constants, double>); // a string cannot cross into kernels

static_assert(!BaseOptimizer<int, double>);                                                // an int is no optimizer
static_assert(!WholeParameterOptimizer<decltype([](double*, isize) {}), double>);          // takes no parameter_update
static_assert(WholeParameterOptimizer<decltype([](parameter_update<double>) {}), double>); // a lambda will do

// Accountant -------------------------------------------------------------------------------------------------------

static_assert(Accountant<accountant>);

struct immovable_accountant : accountant {
  immovable_accountant() = default;
  immovable_accountant(immovable_accountant&&) = delete;
  immovable_accountant& operator=(immovable_accountant&&) = delete;
};
static_assert(!Accountant<immovable_accountant>); // it cannot be moved into the optimizer

struct accountant_without_record : accountant {
  void record(const gaussian_event&) = delete;
};
static_assert(!Accountant<accountant_without_record>); // nothing could be charged

struct accountant_that_changes_events : accountant {
  void record(gaussian_event&) {}
};
static_assert(!Accountant<accountant_that_changes_events>); // it wants an event that it may change

struct accountant_without_epsilon : accountant {
  double epsilon(double) const = delete;
};
static_assert(!Accountant<accountant_without_epsilon>); // no epsilon

struct accountant_that_spends_by_asking : accountant {
  [[nodiscard]] double epsilon(double) { return 0.0; }
};
static_assert(!Accountant<accountant_that_spends_by_asking>); // epsilon() is not const

} // namespace
} // namespace dpopt::archetypes
