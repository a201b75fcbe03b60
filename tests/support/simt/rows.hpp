// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Rows of random numbers for tests of kernels, in memory that ends where they end, so that AddressSanitizer sees one
/// number too many; and what tests of kernels compare.
#pragma once

#include "support/simt/run.hpp"

#include "dpopt/core/types.hpp"
#include "dpopt/cuda/rows.cuh"
#include "dpopt/gradients/materialized.hpp"

#include <cmath>
#include <cstddef>
#include <random>
#include <vector>

namespace simt {

using dpopt::isize;

/// The sizes at which kernels go wrong: nothing, one, around a warp and around a block.
inline constexpr isize edge_sizes[] = {0, 1, 31, 32, 33, 255, 256, 257};

/// [batch x size], rows `stride` apart, the first `offset` elements behind an aligned address.
template <class U>
struct random_rows {
  isize batch, size, stride, offset;
  std::vector<U> memory;

  random_rows(isize batch_, isize size_, isize padding = 0, isize offset_ = 0, unsigned seed = 1)
      : batch(batch_), size(size_), stride(size_ + padding), offset(offset_),
        memory(static_cast<std::size_t>(offset_ + (batch_ == 0 ? 0 : (batch_ - 1) * (size_ + padding) + size_))) {
    std::mt19937 bits(seed);
    std::normal_distribution<double> normal;
    for (U& x : memory) x = static_cast<U>(normal(bits));
  }

  [[nodiscard]] U* row(isize i) { return memory.data() + offset + i * stride; }
  [[nodiscard]] dpopt::cuda::row_view<U> view() const { return {memory.data() + offset, batch, size, stride}; }
  [[nodiscard]] dpopt::cuda::position_view<U> positions(isize samples, isize each) const {
    return {memory.data() + offset, samples, each, size, each * stride, stride};
  }
  [[nodiscard]] dpopt::materialized<U> on_cpu() const { return {memory.data() + offset, batch, size, stride}; }
};

/// Factors in (0, 1], or 0 for each third sample when asked for.
[[nodiscard]] inline std::vector<double> random_factors(isize batch, bool with_zeros = true) {
  std::mt19937 bits(7);
  std::uniform_real_distribution<double> uniform(1e-3, 1);
  std::vector<double> out(static_cast<std::size_t>(batch));
  for (std::size_t i = 0; i < out.size(); ++i) out[i] = with_zeros && i % 3 == 1 ? 0 : uniform(bits);
  return out;
}

/// The greatest of |a - b| / |b|; infinite where one is NaN or infinite and the other is not the same.
[[nodiscard]] inline double greatest_difference(const std::vector<double>& a, const std::vector<double>& b) {
  if (a.size() != b.size()) return HUGE_VAL;
  double most = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    if (a[i] == b[i] || (std::isnan(a[i]) && std::isnan(b[i]))) continue;
    const double d = std::abs(a[i] - b[i]) / std::abs(b[i]);
    most = d > most || std::isnan(d) ? (std::isnan(d) ? HUGE_VAL : d) : most;
  }
  return most;
}

} // namespace simt
