// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// A clipper of the user's own that does not know its sensitivity: nobody could say how much noise it needs.
// error: dpopt: the clipper does not satisfy Clipper (see clipping/clipper.hpp).
#include "dpopt/dp_optimizer/dp_optimizer.hpp"

struct halves {
  using role = dpopt::roles::clipper;
  struct rule_of_half {
    double operator()(double) const { return 0.5; }
  };
  void bind(std::span<const dpopt::parameter_info>) {}
  [[nodiscard]] dpopt::isize groups() const { return 1; }
  [[nodiscard]] dpopt::isize group_of(dpopt::isize) const { return 0; }
  [[nodiscard]] rule_of_half rule(dpopt::isize) const { return {}; }
#ifdef DPOPT_CORRECTED
  [[nodiscard]] double sensitivity(dpopt::neighbouring) const { return 1; }
#endif
  [[nodiscard]] std::string describe() const { return "halves"; }
};
static_assert(sizeof(dpopt::dp_optimizer<double, halves>) > 0);
