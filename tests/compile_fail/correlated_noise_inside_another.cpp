// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// Two correlations would be a third strategy, whose sensitivity nobody computes.
// error: dpopt: correlated noise is one mechanism over the whole run: no schedule and no second correlation inside.
#include "dpopt/noise/correlated.hpp"
#include "dpopt/noise/counter_gaussian.hpp"
#include "dpopt/noise/tree.hpp"

#ifdef DPOPT_CORRECTED
using base = dpopt::counter_gaussian;
#else
using base = dpopt::correlated<dpopt::counter_gaussian, dpopt::tree>;
#endif
static_assert(sizeof(dpopt::correlated<base, dpopt::tree>) > 0);
