// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// A sequential generator cannot give every rank the same noise.
// error: dpopt: with this placement a rank's noise must follow from its address, but this mechanism's numbers depend on the order of calls; use counter_gaussian or secure_gaussian, or placement root_before_reduction.
#include "dpopt/dp_optimizer/dp_optimizer.hpp"
#include "dpopt/noise/sequential_gaussian.hpp"

#include <random>

#ifdef DPOPT_CORRECTED
using placement = dpopt::root_before_reduction;
#else
using placement = dpopt::replicated;
#endif
static_assert(sizeof(dpopt::dp_optimizer<double, dpopt::sequential_gaussian<std::mt19937_64>, placement>) > 0);
