// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// scale_then_privatize reads its own divisors while gradients are clipped; no kernel applies it.
// error: dpopt: the base optimizer has no element_update for a device (see cuda/element_updates.hpp); apply your own to what pre_step() releases.
#include "support/recording_api.hpp"

#include "dpopt/cuda/device_composition.hpp"
#include "dpopt/optimizers/adam.hpp"
#include "dpopt/optimizers/scale_then_privatize.hpp"

#ifdef DPOPT_CORRECTED
using base = dpopt::adam;
#else
using base = dpopt::scale_then_privatize<dpopt::adam>;
#endif
static_assert(sizeof(dpopt::cuda::device_composition<float, dpopt::testing::recording_api, base>) > 0);
