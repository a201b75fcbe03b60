// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// Past noise cannot be drawn again from a generator that has moved on.
// error: dpopt: correlated noise is made of independent real numbers at addresses; use counter_gaussian or secure_gaussian inside.
#include "dpopt/noise/correlated.hpp"
#include "dpopt/noise/counter_gaussian.hpp"
#include "dpopt/noise/sequential_gaussian.hpp"
#include "dpopt/noise/tree.hpp"

#include <random>

#ifdef DPOPT_CORRECTED
using base = dpopt::counter_gaussian;
#else
using base = dpopt::sequential_gaussian<std::mt19937_64>;
#endif
static_assert(sizeof(dpopt::correlated<base, dpopt::tree>) > 0);
