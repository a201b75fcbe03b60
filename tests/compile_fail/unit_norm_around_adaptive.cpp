// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// Outside of adaptive, unit_norm would hide that it learns.
// error: dpopt: unit_norm goes around a grouping or a rule, once; put adaptive and scheduled outside of it.
#include "dpopt/clipping/adaptive.hpp"
#include "dpopt/clipping/unit_norm.hpp"

#ifdef DPOPT_CORRECTED
using clipper = dpopt::adaptive<dpopt::unit_norm<dpopt::flat>>;
#else
using clipper = dpopt::unit_norm<dpopt::adaptive<dpopt::flat>>;
#endif

void use(clipper* c) { static_cast<void>(sizeof *c); }
