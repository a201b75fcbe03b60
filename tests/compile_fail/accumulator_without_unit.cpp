// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// An accumulator of the user's own that forgets what one of its units stands for.
// error: dpopt: the accumulator does not satisfy Accumulator (see accumulation/accumulator.hpp).
#include "dpopt/dp_optimizer/dp_optimizer.hpp"

struct my_sum {
  using role = dpopt::roles::accumulator;
  using value_type = double;
  void resize(dpopt::isize, double) {}
  [[nodiscard]] double* data() { return nullptr; }
#ifdef DPOPT_CORRECTED
  [[nodiscard]] double unit() const { return 1; }
#endif
  [[nodiscard]] std::string describe() const { return "my_sum"; }
};
static_assert(sizeof(dpopt::dp_optimizer<double, my_sum>) > 0);
