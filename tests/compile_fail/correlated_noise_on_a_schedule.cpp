// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// The whole run is charged once, with one multiplier: it cannot change on the way.
// error: dpopt: correlated noise is one mechanism over the whole run: no schedule and no second correlation inside.
#include "dpopt/core/schedules.hpp"
#include "dpopt/noise/correlated.hpp"
#include "dpopt/noise/counter_gaussian.hpp"
#include "dpopt/noise/scheduled_multiplier.hpp"
#include "dpopt/noise/tree.hpp"

#ifdef DPOPT_CORRECTED
using base = dpopt::counter_gaussian;
#else
using base = dpopt::scheduled_multiplier<dpopt::counter_gaussian, dpopt::step_decay>;
#endif
static_assert(sizeof(dpopt::correlated<base, dpopt::tree>) > 0);
