// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// A source is a view: one that owns a vector would be copied, and die, at the wrong time.
// error: dpopt: the gradient source does not satisfy PerSampleGradients (see gradients/per_sample_gradients.hpp): it must be trivially copyable, at most 192 bytes, and answer both questions.
#include "dpopt/dp_optimizer/dp_optimizer.hpp"
#include "dpopt/gradients/materialized.hpp"

#include <vector>

struct my_gradients {
#ifdef DPOPT_CORRECTED
  const double* rows;
#else
  std::vector<double> rows;
#endif
  [[nodiscard]] dpopt::isize batch() const { return 1; }
  [[nodiscard]] dpopt::isize size() const { return 1; }
  [[nodiscard]] dpopt::isize block() const { return 1; }
  void add_squared_norms(dpopt::samples, double*, dpopt::workspace&) const {}
  template <class Out>
  void add_weighted_sum(dpopt::samples, const double*, Out*, dpopt::workspace&) const {}
};

void hand_over(dpopt::dp_optimizer<double>& opt, const my_gradients& g) { opt.gradient_ready(0, g); }
