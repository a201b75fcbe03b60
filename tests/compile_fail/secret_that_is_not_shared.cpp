// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// Each rank would draw a key of its own, and with it add other noise to the same sum.
// error: dpopt: this noise mechanism draws a secret that ranks cannot share, so each would add noise of its own after the reduction; give it secret() and reproducible() too (SharesSecret in noise/noise_mechanism.hpp).
#include "dpopt/communication/threads.hpp"
#include "dpopt/dp_optimizer/dp_optimizer.hpp"
#include "dpopt/sodium/secure_gaussian.hpp"

#ifdef DPOPT_CORRECTED
using noise = dpopt::secure_gaussian;
#else
struct noise {
  using role = dpopt::roles::noise;
  static constexpr bool addressable = true;
  dpopt::secure_gaussian inner;
  double multiplier() const { return inner.multiplier(); }
  void validate() const { inner.validate(); }
  void draw_secret() { inner.draw_secret(); }
  void add(const dpopt::address& where, double std, double* x, dpopt::isize count) const {
    inner.add(where, std, x, count);
  }
};
#endif
static_assert(sizeof(dpopt::dp_optimizer<double, noise, dpopt::threads, dpopt::replicated>) > 0);
