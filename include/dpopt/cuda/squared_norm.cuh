// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// dpopt::squared_norm on the device: sums of squares in double that are upper bounds whatever the order of summation,
/// also where squares underflow. NaN and Inf stay.
#pragma once

#include "dpopt/cuda/dialect.cuh"
#include "dpopt/cuda/reduce.cuh"
#include "dpopt/cuda/vector_load.cuh"
#include "dpopt/gradients/per_sample_gradients.hpp"

#include <limits>

namespace dpopt::cuda {

/// An upper bound from a computed sum of n squares of U.
/// @param any_number whether one of what was squared is not 0; asked only where squares may have underflowed.
template <class U, class AnyNumber>
[[nodiscard]] __device__ inline double bound_of_squares(double sum, isize n, const AnyNumber& any_number) {
  const double bound = upper_bound_of_sum(sum, n);
  if constexpr (sizeof(U) > sizeof(float)) // squares of narrower numbers do not underflow
    if (sum < underflow_matters_below && any_number())
      return bound + static_cast<double>(n) * std::numeric_limits<double>::denorm_min();
  return bound;
}

/// The squares of one share of x[0, n).
template <class U>
[[nodiscard]] __device__ inline double squares_of_share(const U* x, isize n, int lane, int lanes) {
  double sum = 0;
  for_share(x, n, lane, lanes, [&](U v) { sum += static_cast<double>(v) * static_cast<double>(v); });
  return sum;
}

/// How many numbers of the share are not 0.
template <class U>
[[nodiscard]] __device__ inline int numbers_of_share(const U* x, isize n, int lane, int lanes) {
  int count = 0;
  for_share(x, n, lane, lanes, [&](U v) { count |= static_cast<double>(v) != 0 ? 1 : 0; });
  return count;
}

/// |x|^2 by one warp, all of whose lanes must come; the result in each.
template <class U>
[[nodiscard]] __device__ inline double warp_squared_norm(const U* x, isize n) {
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  const double sum = warp_sum(squares_of_share(x, n, lane, warp_size));
  return bound_of_squares<U>(sum, n,
                             [&] { return __any_sync(all_lanes, numbers_of_share(x, n, lane, warp_size)) != 0; });
}

/// |x|^2 by one block, all of whose threads must come; the result in each. per_warp: as for block_sum.
template <class U, class Shared>
[[nodiscard]] __device__ inline double block_squared_norm(const U* x, isize n, Shared& per_warp) {
  const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
  const double sum = block_sum(squares_of_share(x, n, thread, threads), per_warp);
  return bound_of_squares<U>(
      sum, n, [&] { return block_sum(static_cast<double>(numbers_of_share(x, n, thread, threads)), per_warp) > 0; });
}

} // namespace dpopt::cuda
