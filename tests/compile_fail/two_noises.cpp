// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// A second mechanism does not make a release twice as private: one of the two would be left out.
// error: dpopt: two policies play the same role; pass one clipper, one noise mechanism, one of each.
#include "dpopt/dp_optimizer/per_layer_optimizers.hpp"

int main() {
  double weight[2] = {};
  const dpopt::parameter_view<double> views[] = {{"weight", weight}};
#ifdef DPOPT_CORRECTED
  dpopt::dp_optimizer opt(views, dpopt::dp_options{}, dpopt::flat{1.0}, dpopt::counter_gaussian{1.0});
#else
  dpopt::dp_optimizer opt(views, dpopt::dp_options{}, dpopt::flat{1.0}, dpopt::counter_gaussian{1.0},
                          dpopt::secure_gaussian{1.0});
#endif
  opt.zero_grad();
}
