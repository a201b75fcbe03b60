// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// A strategy of the user's own that does not say how to compute a row.
// error: dpopt: the strategy satisfies neither RegeneratingStrategy nor StoringStrategy (see noise/strategy.hpp).
#include "dpopt/noise/correlated.hpp"
#include "dpopt/noise/counter_gaussian.hpp"

#include <cstdint>
#include <span>
#include <string>

struct my_strategy {
  void validate(const dpopt::run_plan&) {}
  [[nodiscard]] double sensitivity(const dpopt::run_plan&) const { return 1; }
  void start_row(std::uint64_t step) { term.step = step; }
  [[nodiscard]] double row_norm() const { return 1; }
  template <class F>
  void visit_state(F&&) {}
  [[nodiscard]] std::string describe() const { return "my_strategy"; }
#ifdef DPOPT_CORRECTED
  [[nodiscard]] std::span<const dpopt::stream_term> terms() const { return {&term, 1}; }
#endif
  dpopt::stream_term term{0, 1};
};
static_assert(sizeof(dpopt::correlated<dpopt::counter_gaussian, my_strategy>) > 0);
