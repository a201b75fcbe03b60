// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// A mechanism that adds neither to the sum's type nor to double.
// error: dpopt: the noise mechanism can add neither to the accumulator's type nor to double.
#include "dpopt/dp_optimizer/dp_optimizer.hpp"

#ifdef DPOPT_CORRECTED
using number = double;
#else
using number = float;
#endif
struct my_noise {
  using role = dpopt::roles::noise;
  static constexpr bool addressable = true;
  [[nodiscard]] double multiplier() const { return 1; }
  void validate() const {}
  void add(const dpopt::address&, double, number*, dpopt::isize) {}
};
static_assert(sizeof(dpopt::dp_optimizer<double, my_noise>) > 0);
