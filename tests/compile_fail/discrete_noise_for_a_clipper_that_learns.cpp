// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// The counts that an adaptive clipper learns from are real numbers: there is no discrete noise for them.
// error: dpopt: a clipper that learns needs noise on real numbers, which this mechanism cannot add.
#include "dpopt/accumulation/integer_grid.hpp"
#include "dpopt/clipping/adaptive.hpp"
#include "dpopt/dp_optimizer/dp_optimizer.hpp"
#include "dpopt/sodium/hardened_gaussian.hpp"

#ifdef DPOPT_CORRECTED
using clipper = dpopt::flat;
#else
using clipper = dpopt::adaptive<dpopt::flat>;
#endif
static_assert(sizeof(dpopt::dp_optimizer<double, dpopt::hardened_gaussian, dpopt::integer_grid, clipper>) > 0);
