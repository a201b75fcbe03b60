// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// A base optimizer with the role but without either way to update.
// error: dpopt: the base optimizer has neither at(t).update(x, g, slots, n) nor a call taking parameter_update<T>.
#include "dpopt/dp_optimizer/dp_optimizer.hpp"

struct sign_descent {
  using role = dpopt::roles::base_optimizer;
#ifdef DPOPT_CORRECTED
  void operator()(dpopt::parameter_update<double> u) const {
    for (std::size_t i = 0; i < u.value.size(); ++i) u.value[i] -= u.gradient[i] > 0 ? 0.01 : -0.01;
  }
#else
  void operator()(double* x, const double* g) const { *x -= *g > 0 ? 0.01 : -0.01; }
#endif
};
static_assert(sizeof(dpopt::dp_optimizer<double, sign_descent>) > 0);
