// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// A user's own optimizer that forgets validate() is told so by the concept.
// error: b.validate()
#include "dpopt/optimizers/base_optimizer.hpp"

#include <array>

struct constants {
  void update(double*, const double*, std::array<double*, 0>, dpopt::isize) const {}
};

struct my_optimizer {
  static constexpr std::size_t slots = 0;
#ifdef DPOPT_CORRECTED
  void validate() const {}
#endif
  [[nodiscard]] constants at(std::uint64_t) const { return {}; }
};

static_assert(dpopt::ElementwiseOptimizer<my_optimizer, double>);
