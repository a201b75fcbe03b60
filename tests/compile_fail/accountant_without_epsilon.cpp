// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// An accountant of the user's own that never answers.
// error: dpopt: the accountant does not satisfy Accountant (see accounting/accountant.hpp).
#include "dpopt/dp_optimizer/dp_optimizer.hpp"

struct silent_accountant {
  using role = dpopt::roles::accountant;
  void record(const dpopt::gaussian_event&) {}
#ifdef DPOPT_CORRECTED
  [[nodiscard]] double epsilon(double) const { return 1; }
#endif
};
static_assert(sizeof(dpopt::dp_optimizer<double, silent_accountant>) > 0);
