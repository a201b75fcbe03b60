// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// A scaling of the user's own without a divisor.
// error: dpopt: the scaling does not satisfy Scaling (see scaling/scaling.hpp).
#include "dpopt/dp_optimizer/dp_optimizer.hpp"

struct my_scaling {
  using role = dpopt::roles::scaling;
  void validate() const {}
#ifdef DPOPT_CORRECTED
  [[nodiscard]] double divisor(dpopt::isize, int) const { return 10; }
#endif
  [[nodiscard]] std::string describe() const { return "my_scaling"; }
};
static_assert(sizeof(dpopt::dp_optimizer<double, my_scaling>) > 0);
