// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Which policy plays which role in a dp_optimizer, and one sentence for each combination that is meaningless or
/// unproven.
#pragma once

#include "dpopt/accounting/rdp_accountant.hpp"
#include "dpopt/accumulation/running_sum.hpp"
#include "dpopt/clipping/clipper.hpp"
#include "dpopt/clipping/flat.hpp"
#include "dpopt/communication/agreement.hpp"
#include "dpopt/communication/serial.hpp"
#include "dpopt/dp_optimizer/base_adaptor.hpp"
#include "dpopt/dp_optimizer/roles.hpp"
#include "dpopt/dp_optimizer/schedule.hpp"
#include "dpopt/noise/counter_gaussian.hpp"
#include "dpopt/noise/placement.hpp"
#include "dpopt/optimizers/sgd.hpp"
#include "dpopt/scaling/expected_batch.hpp"

#include <concepts>

namespace dpopt {

/// The policies among Policies and the defaults for the rest.
template <std::floating_point T, Policy... Policies>
struct composition {
  using clipper_type = policy_for<roles::clipper, flat, Policies...>;
  using accumulator_type = policy_for<roles::accumulator, running_sum<T>, Policies...>;
  using communicator_type = policy_for<roles::communicator, serial, Policies...>;
  using noise_type = policy_for<roles::noise, counter_gaussian, Policies...>;
  using placement_type = policy_for<roles::placement, replicated, Policies...>;
  using scaling_type = policy_for<roles::scaling, expected_batch, Policies...>;
  using base_type = policy_for<roles::base_optimizer, sgd, Policies...>;
  using accountant_type = policy_for<roles::accountant, rdp_accountant, Policies...>;
  using schedule_type = policy_for<roles::schedule, as_ready, Policies...>;
  using sum_type = typename accumulator_type::value_type;

  static_assert(players<roles::clipper, Policies...> <= 1 && players<roles::accumulator, Policies...> <= 1 &&
                    players<roles::communicator, Policies...> <= 1 && players<roles::noise, Policies...> <= 1 &&
                    players<roles::placement, Policies...> <= 1 && players<roles::scaling, Policies...> <= 1 &&
                    players<roles::base_optimizer, Policies...> <= 1 && players<roles::accountant, Policies...> <= 1 &&
                    players<roles::schedule, Policies...> <= 1,
                "dpopt: two policies play the same role; pass one clipper, one noise mechanism, one of each.");
  static_assert(Clipper<clipper_type>, "dpopt: the clipper does not satisfy Clipper (see clipping/clipper.hpp).");
  static_assert(Accumulator<accumulator_type>,
                "dpopt: the accumulator does not satisfy Accumulator (see accumulation/accumulator.hpp).");
  static_assert(
      Reduces<communicator_type, sum_type> && Reduces<communicator_type, double>,
      "dpopt: this communicator cannot sum the accumulator's type; use running_sum<float>, running_sum<double> "
      "or another communicator.");
  static_assert(Placement<placement_type>,
                "dpopt: the placement does not satisfy Placement (see noise/placement.hpp).");
  static_assert(Scaling<scaling_type>, "dpopt: the scaling does not satisfy Scaling (see scaling/scaling.hpp).");
  static_assert(Accountant<accountant_type>,
                "dpopt: the accountant does not satisfy Accountant (see accounting/accountant.hpp).");
  static_assert(Schedule<schedule_type>, "dpopt: the schedule is neither as_ready nor at_step.");
  static_assert(
      BaseOptimizer<base_type, T>,
      "dpopt: the base optimizer has neither at(t).update(x, g, slots, n) nor a call taking parameter_update<T>.");
  static_assert(
      NoiseMechanism<noise_type, sum_type> || !DiscreteNoise<noise_type>,
      "dpopt: discrete noise is added to an integer sum and to nothing else; use the accumulator integer_grid.");
  static_assert(
      WholePlacement<placement_type> || !DiscreteNoise<noise_type>,
      "dpopt: sums of discrete Gaussians are no discrete Gaussians, so ranks cannot add shares of this noise; use "
      "placement replicated or root_before_reduction.");
  static_assert(NoiseMechanism<noise_type, sum_type> || NoiseMechanism<noise_type, double> || DiscreteNoise<noise_type>,
                "dpopt: the noise mechanism can add neither to the accumulator's type nor to double.");
  static_assert(NoiseMechanism<noise_type, sum_type> || !placement_type::before_reduction || DiscreteNoise<noise_type>,
                "dpopt: noise placed before the reduction is added in the accumulator's type, which this mechanism "
                "cannot; use a floating accumulator or placement replicated.");
  static_assert(
      AddressableNoise<noise_type> || !placement_type::needs_addressable,
      "dpopt: with this placement a rank's noise must follow from its address, but this mechanism's numbers depend "
      "on the order of calls; use counter_gaussian or secure_gaussian, or placement root_before_reduction.");
  static_assert(
      SharesSecret<noise_type> || !requires(noise_type n) { n.draw_secret(); },
      "dpopt: this noise mechanism draws a secret that ranks cannot share, so each would add noise of its own "
      "after the reduction; give it secret() and reproducible() too (SharesSecret in noise/noise_mechanism.hpp).");
  static_assert(!CorrelatedNoise<noise_type> || !placement_type::before_reduction,
                "dpopt: correlated noise is added after the reduction, when it is certain that the step releases; use "
                "placement replicated.");
  static_assert(!ScatteringPlacement<placement_type> ||
                    (Scatters<communicator_type, sum_type> && Scatters<communicator_type, T>),
                "dpopt: placement sharded needs a communicator that scatters sums and gathers parts (Scatters in "
                "communication/communicator.hpp); use placement replicated.");
  static_assert(NoiseMechanism<noise_type, double> || !LearningClipper<clipper_type> ||
                    (DiscreteNoise<noise_type> && !NoiseMechanism<noise_type, sum_type>),
                "dpopt: a clipper that learns needs noise on real numbers, which this mechanism cannot add.");
};

} // namespace dpopt
