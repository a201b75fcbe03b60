// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// Integer noise on a floating sum would be no discrete Gaussian any more, and open to attacks on rounding.
// error: dpopt: discrete noise is added to an integer sum and to nothing else; use the accumulator integer_grid.
#include "dpopt/accumulation/integer_grid.hpp"
#include "dpopt/dp_optimizer/dp_optimizer.hpp"
#include "dpopt/sodium/hardened_gaussian.hpp"

#ifdef DPOPT_CORRECTED
using accumulator = dpopt::integer_grid;
#else
using accumulator = dpopt::running_sum<double>;
#endif
static_assert(sizeof(dpopt::dp_optimizer<double, dpopt::hardened_gaussian, accumulator>) > 0);
