// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// A resumed run whose accountant starts from nothing would report less than was spent.
// error: dpopt: this accountant cannot tell what it was told, so a resumed run would forget what was spent; give it history() (RecallsEvents in accounting/accountant.hpp) or use rdp_accountant.
#include "dpopt/checkpoint/checkpoint.hpp"

#include <cstddef>
#include <vector>

struct counts_releases {
  using role = dpopt::roles::accountant;
  double spent = 0;
  void record(const dpopt::gaussian_event& e) { spent += 1 / e.noise_multiplier; }
  double epsilon(double) const { return spent; }
};

#ifdef DPOPT_CORRECTED
using accountant = dpopt::rdp_accountant;
#else
using accountant = counts_releases;
#endif
using optimizer = dpopt::dp_optimizer<double, accountant>;
void go_on(optimizer& opt, const std::vector<std::byte>& record) { dpopt::resume(opt, record); }
