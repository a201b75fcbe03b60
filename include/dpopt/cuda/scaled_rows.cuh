// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The two operands of the product that is a factored layer's weighted sum: one scaled by the factors, the other with
/// the rows of dropped samples taken out.
///
/// A product of matrices multiplies every row, and 0 x NaN is NaN: both operands need zeros where the factor is 0. The
/// scaled one has them; the other goes through select_rows, unless no factor can be 0.
///
/// Launched by cuda::linear_weight and cuda::linear_sequence in front of the product. Bytes: each number is read and
/// written once; 3 operations in double to scale it. Roofline of a million floats, H200 (4.8 TB/s) | A100 (2.0 TB/s):
/// 1.7 | 4.0 us. 256 threads; registers 36 | 36 and 32 | 32 (75 and 100 % of a multiprocessor); no shared memory.
#pragma once

#include "dpopt/cuda/dialect.cuh"
#include "dpopt/cuda/rows.cuh"
#include "dpopt/gradients/per_sample_gradients.hpp"

namespace dpopt::cuda {

/// to[(i * positions + t) * size + k] = factors[i] x row(i, t)[k], rounded down as the core's scale_row does; 0 where
/// factors[i] is 0, and such rows are not read. A warp a row.
template <class U, class Out>
__global__ void scale_rows(position_view<U> rows, const double* factors, Out* to) {
  const isize warps = static_cast<isize>(blockDim.x) / warp_size;
  const isize lane = threadIdx.x % warp_size;
  for (isize r = blockIdx.x * warps + threadIdx.x / warp_size; r < rows.samples * rows.positions;
       r += warps * gridDim.x) {
    const isize i = r / rows.positions;
    const double given = factors[i];
    const double factor = given == 0 ? 0 : rounded_down<Out, double>(given);
    const U* const from = rows.row(i, r - i * rows.positions);
    for (isize k = lane; k < rows.size; k += warp_size)
      to[r * rows.size + k] = given == 0 ? Out(0) : narrowed<Out>(factor * static_cast<double>(from[k]));
  }
}

/// to[(i * positions + t) * size + k] = row(i, t)[k], or 0 where factors[i] is 0. A warp a row.
template <class U, class Out>
__global__ void select_rows(position_view<U> rows, const double* factors, Out* to) {
  const isize warps = static_cast<isize>(blockDim.x) / warp_size;
  const isize lane = threadIdx.x % warp_size;
  for (isize r = blockIdx.x * warps + threadIdx.x / warp_size; r < rows.samples * rows.positions;
       r += warps * gridDim.x) {
    const isize i = r / rows.positions;
    const bool kept = factors[i] != 0;
    const U* const from = rows.row(i, r - i * rows.positions);
    for (isize k = lane; k < rows.size; k += warp_size)
      to[r * rows.size + k] = kept ? static_cast<Out>(from[k]) : Out(0);
  }
}

/// Of both kernels.
[[nodiscard]] constexpr launch_shape scaled_rows_shape(isize samples, isize positions) noexcept {
  return cover(samples * positions * warp_size);
}

} // namespace dpopt::cuda
