// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// Two policies for one role: which of them was meant?
// error: dpopt: two policies play the same role; pass one clipper, one noise mechanism, one of each.
#include "dpopt/clipping/per_layer.hpp"
#include "dpopt/dp_optimizer/dp_optimizer.hpp"

#ifdef DPOPT_CORRECTED
using optimizer = dpopt::dp_optimizer<double, dpopt::per_layer>;
#else
using optimizer = dpopt::dp_optimizer<double, dpopt::flat, dpopt::per_layer>;
#endif
static_assert(sizeof(optimizer) > 0);
