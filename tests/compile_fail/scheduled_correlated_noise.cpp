// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// A multiplier that moves between the rows of one mechanism is no multiplier of that mechanism.
// error: dpopt: correlated noise is one mechanism over the whole run, whose multiplier cannot follow a schedule.
#include "dpopt/core/schedules.hpp"
#include "dpopt/noise/correlated.hpp"
#include "dpopt/noise/scheduled_multiplier.hpp"
#include "dpopt/noise/tree.hpp"

#ifdef DPOPT_CORRECTED
using noise = dpopt::counter_gaussian;
#else
using noise = dpopt::correlated<dpopt::counter_gaussian, dpopt::tree>;
#endif
static_assert(sizeof(dpopt::scheduled_multiplier<noise, dpopt::exponential_decay>) > 0);
