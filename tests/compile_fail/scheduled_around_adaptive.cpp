// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// Two policies would move the same bounds.
// error: dpopt: scheduled moves the bounds of flat, per_layer or per_group, plain or with a rule or unit_norm around
// error: them; only norm_quantiles goes around it, and never adaptive.
#include "dpopt/clipping/adaptive.hpp"
#include "dpopt/clipping/scheduled.hpp"

#ifdef DPOPT_CORRECTED
using clipper = dpopt::scheduled<dpopt::flat, dpopt::exponential_decay>;
#else
using clipper = dpopt::scheduled<dpopt::adaptive<dpopt::flat>, dpopt::exponential_decay>;
#endif

void use(clipper* c) { static_cast<void>(sizeof *c); }
