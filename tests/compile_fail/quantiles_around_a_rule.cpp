// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// A histogram of norms goes around a whole clipper, not around the rule that makes a factor of one norm.
// error: dpopt: norm_quantiles goes around a clipper, whose norms it counts.
#include "dpopt/clipping/norm_quantiles.hpp"

#ifdef DPOPT_CORRECTED
using inner = dpopt::flat;
#else
using inner = dpopt::norm_bound;
#endif
static_assert(sizeof(dpopt::norm_quantiles<inner>) > 0);
