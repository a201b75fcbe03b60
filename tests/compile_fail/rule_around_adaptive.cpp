// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// A rule outside of adaptive would hide from the optimizer that it learns.
// error: dpopt: a rule (automatic, psac, drop_above) goes around a grouping: flat, per_layer or per_group;
// error: put unit_norm, adaptive and scheduled outside of it, and one rule only.
#include "dpopt/clipping/adaptive.hpp"
#include "dpopt/clipping/automatic.hpp"

#ifdef DPOPT_CORRECTED
using clipper = dpopt::adaptive<dpopt::automatic<dpopt::flat>>;
#else
using clipper = dpopt::automatic<dpopt::adaptive<dpopt::flat>>;
#endif

void use(clipper* c) { static_cast<void>(sizeof *c); }
