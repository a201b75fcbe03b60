// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The plain sum, in float or in a wider type than the gradients'.
#pragma once

#include "dpopt/accumulation/accumulator.hpp"
#include "dpopt/core/aligned_vector.hpp"
#include "dpopt/gradients/per_sample_gradients.hpp"

#include <type_traits>

namespace dpopt {

/// Sums in V, in the order samples come; equal to summation order between splits into microbatches and ranks.
template <std::floating_point V>
class running_sum {
public:
  using role = roles::accumulator;
  using value_type = V;
  using row_type = V; ///< samples may be written out in it first (gradients/written_rows.hpp)

  void resize(isize n, double) { sums_.assign(static_cast<std::size_t>(n), V(0)); }
  [[nodiscard]] V* data() noexcept { return sums_.data(); }
  [[nodiscard]] double unit() const noexcept { return 1; }
  [[nodiscard]] std::string describe() const {
    return std::is_same_v<V, float> ? "running_sum(float)" : "running_sum(double)";
  }

  template <PerSampleGradients<V> S>
  void add(isize at, const S& source, samples range, const double* factors, workspace& scratch) {
    source.add_weighted_sum(range, factors, sums_.data() + at, scratch);
  }

private:
  aligned_vector<V> sums_;
};

static_assert(Accumulator<running_sum<float>> && Accumulator<running_sum<double>>);

} // namespace dpopt
