// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// Inside of a rule unit_norm would leave the sensitivity at what the rule makes of it.
// error: dpopt: a rule (automatic, psac, drop_above) goes around a grouping: flat, per_layer or per_group;
// error: put unit_norm, adaptive and scheduled outside of it, and one rule only.
#include "dpopt/clipping/drop_above.hpp"
#include "dpopt/clipping/unit_norm.hpp"

#ifdef DPOPT_CORRECTED
using clipper = dpopt::unit_norm<dpopt::drop_above<dpopt::flat>>;
#else
using clipper = dpopt::drop_above<dpopt::unit_norm<dpopt::flat>>;
#endif

void use(clipper* c) { static_cast<void>(sizeof *c); }
