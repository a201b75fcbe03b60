// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// Noise on real numbers cannot be added to the integer sum that leaves a rank.
// error: dpopt: noise placed before the reduction is added in the accumulator's type, which this mechanism cannot; use a floating accumulator or placement replicated.
#include "dpopt/accumulation/integer_grid.hpp"
#include "dpopt/dp_optimizer/dp_optimizer.hpp"

#ifdef DPOPT_CORRECTED
using placement = dpopt::replicated;
#else
using placement = dpopt::root_before_reduction;
#endif
static_assert(sizeof(dpopt::dp_optimizer<double, dpopt::integer_grid, placement>) > 0);
