// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The two optimizers of Opacus' distributed per-layer path, as presets of dp_optimizer: one type, two schedules.
/// Both give the same result; the distributed one clips, sums and communicates while backward still runs.
#pragma once

#include "dpopt/clipping/per_layer.hpp"
#include "dpopt/dp_optimizer/dp_optimizer.hpp"
#include "dpopt/sodium/seed_gaussian.hpp"

#include <limits>
#include <optional>

namespace dpopt {

/// A Philox 4x32-10 stream that the user seeds. Makes the run reproducible, and every epsilon of it is flagged, since
/// who knows the seed can subtract the noise.
struct philox_generator {
  std::uint64_t seed;
};

/// Opacus' constructor arguments by their names, but for `optimizer`, which is an argument of its own.
struct per_layer_options {
  /// Standard deviation of the noise over the sensitivity sqrt(sum C_l^2); required, 0 is "no privacy".
  double noise_multiplier = std::numeric_limits<double>::quiet_NaN();
  /// One bound for all parameters, {one, each, in, order}, or {{"name", bound}, ...}; required.
  clip_bounds max_grad_norm = {};
  /// Of one logical batch. A bare number or per_rank(x): of each rank; across_ranks(x): of all. Required with mean.
  batch_size expected_batch_size = {};
  /// mean divides the noisy sum by the expected batch size, sum does not.
  dpopt::loss_reduction loss_reduction = dpopt::loss_reduction::mean;
  /// A seed of the user's; by default a secret one is drawn by the root.
  std::optional<philox_generator> generator = {};
  /// Noise from a cryptographic generator keyed by the operating system (libsodium); refuses `generator`.
  bool secure_mode = false;
  /// What is neither Opacus' nor a policy.
  dp_options other = {};
};

/// Common part of the two presets.
template <std::floating_point T, class Base, class Comm, Schedule When, Accountant Acc>
class per_layer_optimizer : public dp_optimizer<T, per_layer, Base, Comm, seed_gaussian, expected_batch, When, Acc> {
public:
  using optimizer = dp_optimizer<T, per_layer, Base, Comm, seed_gaussian, expected_batch, When, Acc>;

  /// COLLECTIVE. @see dp_optimizer::dp_optimizer for what is checked and agreed.
  template <ParameterList R>
  per_layer_optimizer(const R& parameters, Base base, const per_layer_options& o, Comm communicator, Acc accountant)
      : optimizer(parameters, o.other, per_layer{o.max_grad_norm}, std::move(base), std::move(communicator),
                  noise_of(o), expected_batch{o.expected_batch_size, o.loss_reduction}, When{}, std::move(accountant)) {
  }

private:
  static seed_gaussian noise_of(const per_layer_options& o) {
    seed_gaussian noise;
    noise.noise_multiplier = o.noise_multiplier;
    if (o.generator) noise.generator_seed = o.generator->seed;
    noise.secure_mode = o.secure_mode;
    return noise;
  }
};

/// Opacus' DistributedPerLayerOptimizer: call gradient_ready(parameter, source) as each layer's gradients appear.
/// @code
/// distributed_per_layer_optimizer opt(parameters, sgd{.learning_rate = 0.1},
///                                     {.noise_multiplier = 1.1, .max_grad_norm = 1.0, .expected_batch_size = 64},
///                                     mpi(comm));
/// @endcode
template <std::floating_point T, class Base, class Comm = serial, Accountant Acc = rdp_accountant>
class distributed_per_layer_optimizer : public per_layer_optimizer<T, Base, Comm, as_ready, Acc> {
public:
  template <ParameterList R, class B>
  distributed_per_layer_optimizer(const R& parameters, B base, const per_layer_options& options,
                                  Comm communicator = Comm{}, Acc accountant = Acc{})
      : per_layer_optimizer<T, Base, Comm, as_ready, Acc>(parameters, Base{std::move(base)}, options,
                                                          std::move(communicator), std::move(accountant)) {}
};

/// Opacus' SimpleDistributedPerLayerOptimizer: views are kept, and pre_step() or step() does the work.
template <std::floating_point T, class Base, class Comm = serial, Accountant Acc = rdp_accountant>
class simple_distributed_per_layer_optimizer : public per_layer_optimizer<T, Base, Comm, at_step, Acc> {
public:
  template <ParameterList R, class B>
  simple_distributed_per_layer_optimizer(const R& parameters, B base, const per_layer_options& options,
                                         Comm communicator = Comm{}, Acc accountant = Acc{})
      : per_layer_optimizer<T, Base, Comm, at_step, Acc>(parameters, Base{std::move(base)}, options,
                                                         std::move(communicator), std::move(accountant)) {}
};

template <ParameterList R, class B, class Comm = serial, class Acc = rdp_accountant>
distributed_per_layer_optimizer(const R&, B, per_layer_options, Comm = Comm{}, Acc = Acc{})
    -> distributed_per_layer_optimizer<typename std::ranges::range_value_t<R>::value_type,
                                       policy_of<typename std::ranges::range_value_t<R>::value_type, B>, Comm, Acc>;
template <ParameterList R, class B, class Comm = serial, class Acc = rdp_accountant>
simple_distributed_per_layer_optimizer(const R&, B, per_layer_options, Comm = Comm{}, Acc = Acc{})
    -> simple_distributed_per_layer_optimizer<typename std::ranges::range_value_t<R>::value_type,
                                              policy_of<typename std::ranges::range_value_t<R>::value_type, B>, Comm,
                                              Acc>;

} // namespace dpopt
