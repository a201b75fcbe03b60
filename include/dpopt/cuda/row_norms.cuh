// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// add_squared_norms of materialized rows: squared_norms[i] += an upper bound on |row i|^2.
///
/// Short rows take a warp each; long ones a block for each part, so that a small batch of long rows still fills the
/// device, and a second kernel, add_norm_parts, adds the parts in their order.
///
/// Launched by cuda::materialized. Bytes: each number is read once; 3 operations in double for it, so memory is the
/// limit. Roofline of a million numbers, H200 (4.8 TB/s) | A100 (2.0 TB/s): float 0.83 | 2.0 us, double 1.7 | 4.0 us.
/// add_norm_parts reads 8 bytes a part and 16 a row, about a thousandth of that. 256 threads; registers sm_80 | sm_90,
/// float: by warp 44 | 32 (62 | 100 % of the threads that a multiprocessor holds), parts 31 | 32 (100 %) and 256 bytes
/// of shared memory, their sum 32 | 32 (100 %).
#pragma once

#include "dpopt/cuda/dialect.cuh"
#include "dpopt/cuda/rows.cuh"
#include "dpopt/cuda/squared_norm.cuh"

namespace dpopt::cuda {

/// |row i|^2 by one warp, as warp_squared_norm of its numbers.
template <class U>
[[nodiscard]] __device__ inline double warp_squared_norm(const row_view<U>& rows, isize i) {
  return warp_squared_norm(rows.row(i), rows.size);
}

/// A warp a row. Launched with row_norm_plan::norms where parts == 0.
template <class U>
__global__ void add_row_norms_by_warp(row_view<U> rows, double* squared_norms) {
  const isize warps = static_cast<isize>(blockDim.x) / warp_size;
  const isize all = warps * static_cast<isize>(gridDim.x);
  for (isize i = blockIdx.x * warps + threadIdx.x / warp_size; i < rows.batch; i += all) {
    const double norm = warp_squared_norm(rows, i);
    if (threadIdx.x % warp_size == 0) squared_norms[i] += norm;
  }
}

/// A block a part: partial[i * parts + j] = |part j of row i|^2. Parts are of equal length, but for the last.
template <class U>
__global__ void row_norm_parts(row_view<U> rows, isize parts, isize part_size, double* partial) {
  DPOPT_SHARED(double, per_warp, most_warps);
  for (isize b = blockIdx.x; b < rows.batch * parts; b += gridDim.x) {
    const isize i = b / parts;
    const isize first = b % parts * part_size;
    const isize rest = rows.size - first;
    const double norm = block_squared_norm(rows.row(i) + first, rest < part_size ? rest : part_size, per_warp);
    if (threadIdx.x == 0) partial[b] = norm;
  }
}

/// squared_norms[i] += the sum of its parts. A thread a row. A template, as all kernels: nvcc has no inline ones.
template <class Sum>
__global__ void add_norm_parts(const Sum* partial, isize batch, isize parts, Sum* squared_norms) {
  const isize threads = static_cast<isize>(blockDim.x);
  for (isize i = blockIdx.x * threads + threadIdx.x; i < batch; i += threads * gridDim.x) {
    double sum = 0;
    for (isize j = 0; j < parts; ++j) sum += partial[i * parts + j];
    squared_norms[i] += upper_bound_of_sum(sum, parts);
  }
}

/// How the norms of a batch are launched.
struct row_norm_plan {
  isize parts;     ///< of each row; 0: add_row_norms_by_warp does it alone
  isize part_size; ///< elements
  launch_shape norms;
  launch_shape sum;

  /// Doubles of scratch memory for `partial`.
  [[nodiscard]] constexpr isize scratch(isize batch) const noexcept { return batch * parts; }
};

/// Rows of up to 4096 numbers go by warps. Longer ones are split until about 1024 blocks are busy, but not below 8192
/// numbers a block.
[[nodiscard]] constexpr row_norm_plan plan_row_norms(isize batch, isize size) noexcept {
  if (batch == 0) return {0, 0, {0, 256}, {0, 256}};
  if (size <= 4096) return {0, 0, cover(batch * warp_size), {0, 256}};
  const isize most = (size + 8191) / 8192;
  const isize wanted = (1024 + batch - 1) / batch;
  const isize parts = wanted < most ? wanted : most;
  const isize each = (size + parts - 1) / parts;
  const isize part_size = (each + 255) / 256 * 256; // keeps the alignment of the row
  const isize used = (size + part_size - 1) / part_size;
  return {used, part_size, cover(batch * used * 256), cover(batch)};
}

} // namespace dpopt::cuda
