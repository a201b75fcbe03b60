// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// A placement of the user's own with half of its answers.
// error: dpopt: the placement does not satisfy Placement (see noise/placement.hpp).
#include "dpopt/dp_optimizer/dp_optimizer.hpp"

struct on_rank_1 {
  using role = dpopt::roles::placement;
  static constexpr bool needs_addressable = false;
  static constexpr bool before_reduction = true;
  [[nodiscard]] dpopt::share before(int rank, int) const { return {rank == 1 ? 1.0 : 0.0, 0}; }
#ifdef DPOPT_CORRECTED
  [[nodiscard]] dpopt::share after(int, int) const { return {}; }
#endif
};
static_assert(sizeof(dpopt::dp_optimizer<double, on_rank_1>) > 0);
