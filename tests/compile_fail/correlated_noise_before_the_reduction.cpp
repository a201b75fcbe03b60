// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// A step whose reduction fails would have shown a row of noise that the next step must use again.
// error: dpopt: correlated noise is added after the reduction, when it is certain that the step releases; use placement replicated.
#include "dpopt/dp_optimizer/dp_optimizer.hpp"
#include "dpopt/noise/correlated.hpp"
#include "dpopt/noise/tree.hpp"

#ifdef DPOPT_CORRECTED
using placement = dpopt::replicated;
#else
using placement = dpopt::independent_shares;
#endif
using noise = dpopt::correlated<dpopt::counter_gaussian, dpopt::tree>;
static_assert(sizeof(dpopt::dp_optimizer<double, noise, placement>) > 0);
