// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// The integer grid rounds each sample by itself, so it needs sources that can give one.
// error: dpopt: this accumulator needs each sample by itself (copy_sample), which this source cannot give; use running_sum.
#include "dpopt/accumulation/integer_grid.hpp"
#include "dpopt/dp_optimizer/dp_optimizer.hpp"

struct my_gradients {
  [[nodiscard]] dpopt::isize batch() const { return 1; }
  [[nodiscard]] dpopt::isize size() const { return 1; }
  [[nodiscard]] dpopt::isize block() const { return 1; }
  void add_squared_norms(dpopt::samples, double*, dpopt::workspace&) const {}
  template <class Out>
  void add_weighted_sum(dpopt::samples, const double*, Out*, dpopt::workspace&) const {}
#ifdef DPOPT_CORRECTED
  void copy_sample(dpopt::isize, dpopt::isize, dpopt::isize, double, double*) const {}
#endif
};

void hand_over(dpopt::dp_optimizer<double, dpopt::integer_grid>& opt, const my_gradients& g) {
  opt.gradient_ready(0, g);
}
