// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Squared norms of many rows at once, at the speed of the machine's vectors and with the same bits at every level.
#pragma once

#include "dpopt/core/platform.hpp"
#include "dpopt/core/square_sums.hpp"
#include "dpopt/core/types.hpp"
#include "dpopt/core/vector_dispatch.hpp"
#include "dpopt/core/vector_operations.hpp"
#include "dpopt/gradients/per_sample_gradients.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <type_traits>

namespace dpopt {

namespace detail {

/// What square_sums() of wider vectors computes, for those that have none: number k goes to chain k mod 16. By halves,
/// which fit the registers of narrow vectors, over parts that stay in the first-level cache.
DPOPT_FORCE_INLINE inline double square_sum(const float* x, isize n) noexcept {
  DPOPT_NO_CONTRACT_BLOCK
  constexpr isize half = 8, part = 1024;
  double chains[2][half] = {};
  isize k = 0;
  while (k + 2 * half <= n) {
    const isize end = k + std::min(part, (n - k) / (2 * half) * (2 * half));
    for (isize i = k; i < end; i += 2 * half)
      for (isize j = 0; j < half; ++j) chains[0][j] += static_cast<double>(x[i + j]) * static_cast<double>(x[i + j]);
    for (isize i = k + half; i < end; i += 2 * half)
      for (isize j = 0; j < half; ++j) chains[1][j] += static_cast<double>(x[i + j]) * static_cast<double>(x[i + j]);
    k = end;
  }
  for (isize j = 0; k < n; ++j, ++k)
    chains[j / half][j % half] += static_cast<double>(x[k]) * static_cast<double>(x[k]);
  double sums[4];
  for (isize j = 0; j < 4; ++j) sums[j] = (chains[0][j] + chains[0][j + 4]) + (chains[1][j] + chains[1][j + 4]);
  return (sums[0] + sums[2]) + (sums[1] + sums[3]);
}

template <std::size_t Bytes>
DPOPT_FORCE_INLINE inline void square_sums_of_rows(vector_bytes<Bytes> width, const float* rows, isize stride,
                                                   isize count, isize n, double* sums) noexcept {
  if constexpr (requires { square_sums(rows, stride, count, n, sums, width); })
    square_sums(rows, stride, count, n, sums, width);
  else
    for (isize i = 0; i < count; ++i) sums[i] = square_sum(rows + i * stride, n);
}

} // namespace detail

/// squared_norms[i] += |row i|^2 for `count` rows of n numbers, `stride` elements apart: upper bounds, as
/// squared_norm() gives, NaN or infinite where a number is.
template <class U>
void add_row_norms(const U* rows, isize stride, isize count, isize n, double* squared_norms) {
  vectorized([=](auto width) DPOPT_FORCE_INLINE_LAMBDA {
    if constexpr (std::is_same_v<U, float>) { // squares of floats do not underflow in double
      constexpr isize together = 64;
      std::array<double, together> sums;
      for (isize first = 0; first < count; first += together) {
        const isize part = std::min(together, count - first);
        detail::square_sums_of_rows(width, rows + first * stride, stride, part, n, sums.data());
        for (isize i = 0; i < part; ++i)
          squared_norms[first + i] += upper_bound_of_sum(sums[static_cast<std::size_t>(i)], n);
      }
    } else {
      for (isize i = 0; i < count; ++i) squared_norms[i] += squared_norm(rows + i * stride, n);
    }
  });
}

} // namespace dpopt
