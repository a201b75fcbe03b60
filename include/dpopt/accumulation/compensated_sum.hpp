// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// A sum that keeps what each addition rounds away: as good as twice the digits of V, and on the wire as narrow as V.
#pragma once

#include "dpopt/accumulation/accumulator.hpp"
#include "dpopt/gradients/sample_tiles.hpp"

#include <algorithm>
#include <string>
#include <type_traits>
#include <vector>

namespace dpopt {

/// A rank's sum of n contributions x_i has an error of at most eps |sum| + (n eps)^2 sum |x_i|, where a running_sum has
/// n eps sum |x_i| (Ogita, Rump and Oishi 2005, "Accurate sum and dot product", prop. 4.5). For V = float also the
/// digits that a contribution loses on its way from double are kept. The rounding errors are folded in by seal(),
/// before the reduction: between ranks W - 1 plain additions in V remain. Memory: two V an element. Needs strict
/// arithmetic: -ffast-math removes the compensation.
template <std::floating_point V>
class compensated_sum {
public:
  using role = roles::accumulator;
  using value_type = V;

  void resize(isize n, double) {
    sums_.assign(static_cast<std::size_t>(n), V(0));
    lost_.assign(static_cast<std::size_t>(n), V(0));
  }
  /// Complete after seal().
  [[nodiscard]] V* data() noexcept { return sums_.data(); }
  [[nodiscard]] double unit() const noexcept { return 1; }
  [[nodiscard]] std::string describe() const {
    return std::is_same_v<V, float> ? "compensated_sum(float)" : "compensated_sum(double)";
  }

  template <SampleAccess S>
  void add(isize at, const S& source, samples range, const double* factors, workspace& scratch) {
    const workspace::scope scope(scratch);
    const isize tile = sample_tile(source);
    double* const g = scratch.take<double>(tile);
    for (isize i = 0; i < range.count; ++i) {
      if (factors[i] == 0) continue;
      const double factor = rounded_down<V, double>(factors[i]);
      detail::for_each_tile_of(source, range.first + i, tile, g, scratch, [&](isize first, isize count, double* part) {
        for (isize k = 0; k < count; ++k) part[k] *= factor;
        add_tile(sums_.data() + at + first, lost_.data() + at + first, part, count);
      });
    }
  }

  /// Adds what was lost in elements [first, first + count) to them. Called once a step, before they are reduced.
  void seal(isize first, isize count) noexcept {
    for (isize k = first; k < first + count; ++k) {
      const auto at = static_cast<std::size_t>(k);
      sums_[at] += lost_[at];
      lost_[at] = V(0);
    }
  }

  /// Forgets sums and errors alike: an error left behind would carry dropped contributions into the next step.
  void clear() noexcept {
    std::fill(sums_.begin(), sums_.end(), V(0));
    std::fill(lost_.begin(), lost_.end(), V(0));
  }

private:
  /// Knuth's two-sum: s + error is exactly sum + term, without a branch, so that it is vectorised.
  static void add_tile(V* sums, V* lost, const double* terms, isize count) noexcept {
    for (isize k = 0; k < count; ++k) {
      const V term = static_cast<V>(terms[k]);
      const V sum = sums[k];
      const V s = sum + term;
      const V of_term = s - sum;
      V error = (sum - (s - of_term)) + (term - of_term);
      if constexpr (sizeof(V) < sizeof(double)) error += static_cast<V>(terms[k] - static_cast<double>(term));
      sums[k] = s;
      lost[k] += error;
    }
  }

  std::vector<V> sums_;
  std::vector<V> lost_;
};

static_assert(SealedAccumulator<compensated_sum<float>> && SealedAccumulator<compensated_sum<double>>);

} // namespace dpopt
