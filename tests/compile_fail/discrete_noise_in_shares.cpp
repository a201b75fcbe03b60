// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// W discrete Gaussians of std / sqrt(W) do not add up to a discrete Gaussian.
// error: dpopt: sums of discrete Gaussians are no discrete Gaussians, so ranks cannot add shares of this noise; use placement replicated or root_before_reduction.
#include "dpopt/accumulation/integer_grid.hpp"
#include "dpopt/dp_optimizer/dp_optimizer.hpp"
#include "dpopt/sodium/hardened_gaussian.hpp"

#ifdef DPOPT_CORRECTED
using placement = dpopt::root_before_reduction;
#else
using placement = dpopt::independent_shares;
#endif
static_assert(sizeof(dpopt::dp_optimizer<double, dpopt::hardened_gaussian, dpopt::integer_grid, placement>) > 0);
