// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// A generator that starts anew would repeat its numbers in the resumed run.
// error: dpopt: this noise mechanism has no secret that a resumed run could renew, so it might repeat its numbers; use counter_gaussian or secure_gaussian.
#include "dpopt/checkpoint/checkpoint.hpp"
#include "dpopt/noise/counter_gaussian.hpp"
#include "dpopt/noise/sequential_gaussian.hpp"

#include <cstddef>
#include <random>
#include <vector>

#ifdef DPOPT_CORRECTED
using noise = dpopt::counter_gaussian;
#else
using noise = dpopt::sequential_gaussian<std::mt19937_64>;
#endif
using optimizer = dpopt::dp_optimizer<double, noise, dpopt::root_before_reduction>;
void go_on(optimizer& opt, const std::vector<std::byte>& record) { dpopt::resume(opt, record); }
