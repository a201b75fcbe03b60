// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// When clipping happens is decided when compiling.
// error: dpopt: the schedule is neither as_ready nor at_step.
#include "dpopt/dp_optimizer/dp_optimizer.hpp"

struct my_schedule {
  using role = dpopt::roles::schedule;
#ifdef DPOPT_CORRECTED
  static constexpr
#endif
      bool deferred = true;
};
static_assert(sizeof(dpopt::dp_optimizer<double, my_schedule>) > 0);
