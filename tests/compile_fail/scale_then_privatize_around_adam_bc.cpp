// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// Noise that is multiplied back has another standard deviation for each element.
// error: dpopt: scale_then_privatize multiplies the noise by another factor for each element
// error: use adam or adamw.
#include "dpopt/optimizers/adam_bc.hpp"
#include "dpopt/optimizers/adamw.hpp"
#include "dpopt/optimizers/scale_then_privatize.hpp"

#ifdef DPOPT_CORRECTED
using optimizer = dpopt::scale_then_privatize<dpopt::adamw>;
#else
using optimizer = dpopt::scale_then_privatize<dpopt::adam_bc>;
#endif

void use(optimizer* o) { static_cast<void>(sizeof *o); }
