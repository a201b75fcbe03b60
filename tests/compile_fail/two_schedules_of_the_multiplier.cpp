// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// Two schedules of one multiplier.
// error: dpopt: one schedule is enough: multiply two into a lambda_schedule.
#include "dpopt/noise/scheduled_multiplier.hpp"

template <class Noise>
using decaying = dpopt::scheduled_multiplier<Noise, dpopt::exponential_decay>;

#ifdef DPOPT_CORRECTED
using mechanism = decaying<dpopt::counter_gaussian>;
#else
using mechanism = decaying<decaying<dpopt::counter_gaussian>>;
#endif

void use(mechanism* c) { static_cast<void>(sizeof *c); }
