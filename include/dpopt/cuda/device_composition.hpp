// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Which policy plays which role in a cuda::dp_optimizer, and one sentence for each combination that is meaningless or
/// not offered on the device.
#pragma once

#include "dpopt/accounting/rdp_accountant.hpp"
#include "dpopt/clipping/flat.hpp"
#include "dpopt/cuda/accumulators.hpp"
#include "dpopt/cuda/device_api.hpp"
#include "dpopt/cuda/device_communicator.hpp"
#include "dpopt/cuda/drawn_noise.hpp"
#include "dpopt/cuda/element_updates.hpp"
#include "dpopt/dp_optimizer/base_adaptor.hpp"
#include "dpopt/dp_optimizer/roles.hpp"
#include "dpopt/noise/counter_gaussian.hpp"
#include "dpopt/noise/placement.hpp"
#include "dpopt/optimizers/sgd.hpp"
#include "dpopt/scaling/expected_batch.hpp"

#include <concepts>
#include <type_traits>

namespace dpopt::cuda {

/// Stands where no device was given.
struct no_device {
  using role = device_role;
};

/// The policies among Policies and the defaults for the rest. Clippers, noise, scaling, base optimizers and accountants
/// are the core's own; accumulators and communicators are those of dpopt::cuda.
template <std::floating_point T, Policy... Policies>
struct device_composition {
  using device_type = policy_for<device_role, no_device, Policies...>;
  using clipper_type = policy_for<dpopt::roles::clipper, flat, Policies...>;
  using accumulator_type = policy_for<dpopt::roles::accumulator, running_sum<T>, Policies...>;
  using communicator_type = policy_for<dpopt::roles::communicator, serial, Policies...>;
  using noise_type = policy_for<dpopt::roles::noise, counter_gaussian, Policies...>;
  using placement_type = policy_for<dpopt::roles::placement, replicated, Policies...>;
  using scaling_type = policy_for<dpopt::roles::scaling, expected_batch, Policies...>;
  using base_type = policy_for<dpopt::roles::base_optimizer, sgd, Policies...>;
  using accountant_type = policy_for<dpopt::roles::accountant, rdp_accountant, Policies...>;
  using sum_type = typename accumulator_type::value_type;

  static_assert(((players<typename Policies::role, Policies...> == 1) && ...),
                "dpopt: two policies play the same role; pass one clipper, one noise mechanism, one of each.");
  static_assert(players<dpopt::roles::schedule, Policies...> == 0,
                "dpopt: on a device clipping is always as_ready: a stream keeps the order, so nothing has to wait.");
  static_assert(DeviceApi<device_type>,
                "dpopt: no device was given; pass cuda::cuda_api(stream) among the policies (cuda/cuda_api.cuh).");
  static_assert(Clipper<clipper_type>, "dpopt: the clipper does not satisfy Clipper (see clipping/clipper.hpp).");
  static_assert(DeviceAccumulator<accumulator_type>,
                "dpopt: the accumulator keeps its sums on the host; use cuda::running_sum or cuda::integer_grid.");
  static_assert(DeviceCommunicator<communicator_type, device_type, sum_type>,
                "dpopt: the communicator cannot sum device memory; use cuda::serial, nccl or cuda_mpi.");
  static_assert(std::is_same_v<placement_type, replicated>,
                "dpopt: on a device noise is placed after the reduction; use placement replicated.");
  static_assert(Scaling<scaling_type>, "dpopt: the scaling does not satisfy Scaling (see scaling/scaling.hpp).");
  static_assert(Accountant<accountant_type>,
                "dpopt: the accountant does not satisfy Accountant (see accounting/accountant.hpp).");
  static_assert(
      DeviceOptimizer<base_type, T>,
      "dpopt: the base optimizer has no element_update for a device (see cuda/element_updates.hpp); apply your "
      "own to what pre_step() releases.");
  static_assert(AddressableNoise<noise_type> && !CorrelatedNoise<noise_type>,
                "dpopt: on a device noise must follow from its address, which correlated and sequential noise does "
                "not; use counter_gaussian, or hardened_gaussian on an integer grid.");
  static_assert(DrawnOnDevice<noise_type> || DrawnOnHost<noise_type, sum_type>,
                "dpopt: on a device the noise is counter_gaussian, or discrete noise on cuda::integer_grid.");
};

} // namespace dpopt::cuda
