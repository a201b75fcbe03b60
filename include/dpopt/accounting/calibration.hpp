// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// From a privacy target to the noise multiplier that meets it, with the RDP accountant.
#pragma once

#include "dpopt/accounting/accountant.hpp"
#include "dpopt/accounting/rdp_accountant.hpp"
#include "dpopt/core/error.hpp"
#include "dpopt/core/types.hpp"

#include <cmath>
#include <cstdint>
#include <vector>

namespace dpopt {

/// What a whole training run may cost, and how it samples.
struct noise_target {
  double epsilon = 0;       ///< above 0
  double delta = 0;         ///< in (0, 1); usually below one over the number of units
  double sampling_rate = 1; ///< Poisson rate in (0, 1]
  std::uint64_t steps = 0;  ///< released steps of the run, 1 or more
  neighbouring relation = neighbouring::add_remove;
  noise_kind kind = noise_kind::gaussian; ///< of the mechanism that gets the multiplier
  double relative_tolerance = 1e-9;       ///< how far above the least multiplier the result may be
  std::vector<double> orders = default_rdp_orders();

  /// @throw invalid_argument naming the field outside its range.
  void validate() const {
    const auto require = [](bool holds, const char* field, auto value, const char* use) {
      if (!holds) throw invalid_argument(message("noise_target: ", field, " is ", value, "; use ", use));
    };
    require(epsilon > 0 && std::isfinite(epsilon), "epsilon", epsilon, "a finite number above 0");
    require(delta > 0 && delta < 1, "delta", delta, "a number in (0, 1)");
    require(sampling_rate > 0 && sampling_rate <= 1, "sampling_rate", sampling_rate, "a number in (0, 1]");
    require(steps > 0, "steps", steps, "1 or more");
    require(relative_tolerance >= 1e-12 && relative_tolerance < 1, "relative_tolerance", relative_tolerance,
            "a number in [1e-12, 1)");
    rdp_accountant(orders).validate();
  }
};

/// Least noise multiplier (std over sensitivity) for which rdp_accountant reports at most target.epsilon at
/// target.delta after target.steps steps: from above, within relative_tolerance, so the target is never exceeded.
/// Never below 2^-10, a noise that hides nothing. Not collective: equal arguments give equal bits on every rank.
/// @throw invalid_argument on a field outside its range, or when no multiplier up to 2^60 meets the target.
[[nodiscard]] inline double find_noise_multiplier(const noise_target& target) {
  target.validate();
  const auto epsilon_with = [&](double noise_multiplier) {
    rdp_accountant accountant(target.orders);
    accountant.record({noise_multiplier, target.sampling_rate, target.steps, target.relation, target.kind});
    return accountant.epsilon(target.delta);
  };
  constexpr double least = 0x1p-10, most = 0x1p60;
  // Invariant: `enough` meets the target, `low` does not.
  double enough = 1;
  double reached = epsilon_with(enough);
  while (reached > target.epsilon && enough < most) reached = epsilon_with(enough *= 2);
  if (reached > target.epsilon) {
    throw invalid_argument(message("no noise multiplier reaches epsilon ", target.epsilon, " at delta ", target.delta,
                                   ": it stays at ", reached, "; use a larger epsilon or delta, or higher orders"));
  }
  double low = enough / 2;
  while (epsilon_with(low) <= target.epsilon) {
    if (low <= least) return low;
    enough = low;
    low /= 2;
  }
  while (enough - low > target.relative_tolerance * low) {
    const double middle = low + (enough - low) / 2;
    (epsilon_with(middle) <= target.epsilon ? enough : low) = middle;
  }
  return enough;
}

} // namespace dpopt
