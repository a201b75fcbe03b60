// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// A communicator that sums only floating numbers cannot carry the integer grid.
// error: dpopt: this communicator cannot sum the accumulator's type; use running_sum<float>, running_sum<double> or another communicator.
#include "dpopt/accumulation/integer_grid.hpp"
#include "dpopt/dp_optimizer/dp_optimizer.hpp"

struct only_floating {
  using role = dpopt::roles::communicator;
  struct request {};
  [[nodiscard]] int rank() const { return 0; }
  [[nodiscard]] int size() const { return 1; }
  void broadcast(std::byte*, dpopt::isize, int) {}
  template <std::floating_point T>
  [[nodiscard]] request start_sum(T*, dpopt::isize) {
    return {};
  }
  void wait(request&) {}
};
#ifdef DPOPT_CORRECTED
using optimizer = dpopt::dp_optimizer<double, only_floating, dpopt::running_sum<double>>;
#else
using optimizer = dpopt::dp_optimizer<double, only_floating, dpopt::integer_grid>;
#endif
static_assert(sizeof(optimizer) > 0);
