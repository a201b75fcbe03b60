// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Sums over a warp and over a block, in double and in an order that follows from the number of threads alone: the same
/// numbers give the same bits on every device and in every run. No atomics. And the largest number of a warp.
#pragma once

#include "dpopt/core/types.hpp"
#include "dpopt/cuda/dialect.cuh"

#include <algorithm>

namespace dpopt::cuda {

/// How much of block_sum's shared memory is needed: one number for each of the most warps that a block can have.
inline constexpr int most_warps = 32;

/// The sum of x over the 32 lanes, the same bits in each of them (a butterfly: both partners add the same two numbers).
/// All lanes must come.
[[nodiscard]] __device__ inline double warp_sum(double x) {
  for (int apart = warp_size / 2; apart > 0; apart /= 2) x += __shfl_xor_sync(all_lanes, x, apart, warp_size);
  return x;
}

/// The largest x of the warp, in every lane. All lanes must come.
[[nodiscard]] __device__ inline double warp_largest(double x) {
  for (int apart = warp_size / 2; apart > 0; apart /= 2)
    x = std::max(x, __shfl_xor_sync(all_lanes, x, apart, warp_size));
  return x;
}

/// The sum of x over the block, in every thread. All threads must come; the block has whole warps.
/// @param per_warp shared memory, most_warps doubles; free again when the call returns.
template <class Shared>
[[nodiscard]] __device__ inline double block_sum(double x, Shared& per_warp) {
  const int warps = static_cast<int>(blockDim.x) / warp_size;
  const int warp = static_cast<int>(threadIdx.x) / warp_size;
  const double of_warp = warp_sum(x);
  if (static_cast<int>(threadIdx.x) % warp_size == 0) per_warp[warp] = of_warp;
  __syncthreads();
  double sum = 0;
  for (int w = 0; w < warps; ++w) sum += per_warp[w]; // one number for all threads: broadcast, no bank conflict
  __syncthreads();                                    // before somebody's next sum overwrites it
  return sum;
}

} // namespace dpopt::cuda
