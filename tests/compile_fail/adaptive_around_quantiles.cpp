// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// What moves the bounds goes inside what only looks at norms.
// error: dpopt: adaptive moves the bounds of flat, per_layer or per_group, plain or with a rule or unit_norm around them;
// error: only norm_quantiles goes around it, and never scheduled.
#include "dpopt/clipping/adaptive.hpp"
#include "dpopt/clipping/norm_quantiles.hpp"

#ifdef DPOPT_CORRECTED
using clipper = dpopt::norm_quantiles<dpopt::adaptive<dpopt::flat>>;
#else
using clipper = dpopt::adaptive<dpopt::norm_quantiles<dpopt::flat>>;
#endif
static_assert(sizeof(clipper) > 0);
