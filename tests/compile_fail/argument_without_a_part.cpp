// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// An argument that is neither a policy nor an optimizer, such as a forgotten number.
// error: dpopt: an argument is neither a policy (a type with `using role = roles::...;`) nor a base optimizer (at(t).update(...) or a callable taking parameter_update<T>).
#include "dpopt/dp_optimizer/dp_optimizer.hpp"

struct learning_rate {
  double value;
};

int main() {
  double weight[2] = {};
  const dpopt::parameter_view<double> views[] = {{"weight", weight}};
#ifdef DPOPT_CORRECTED
  dpopt::dp_optimizer opt(views, dpopt::dp_options{}, dpopt::flat{1.0}, dpopt::sgd{.learning_rate = 0.1});
#else
  dpopt::dp_optimizer opt(views, dpopt::dp_options{}, dpopt::flat{1.0}, learning_rate{0.1});
#endif
  opt.zero_grad();
}
