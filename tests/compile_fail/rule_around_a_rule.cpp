// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// Two rules: which one turns the norm into the factor?
// error: dpopt: a rule (automatic, psac, drop_above) goes around a grouping: flat, per_layer or per_group;
// error: put unit_norm, adaptive and scheduled outside of it, and one rule only.
#include "dpopt/clipping/automatic.hpp"
#include "dpopt/clipping/psac.hpp"

#ifdef DPOPT_CORRECTED
using clipper = dpopt::automatic<dpopt::flat>;
#else
using clipper = dpopt::automatic<dpopt::psac<dpopt::flat>>;
#endif

void use(clipper* c) { static_cast<void>(sizeof *c); }
