// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// add_weighted_sum of materialized rows: out[k] += the sum over samples of factors[i] rows[i][k], samples in their
/// order, so that the bits are those of materialized on the CPU.
///
/// Launched by cuda::materialized. Bytes: each number of a kept sample is read once, `out` is read and written once; 2
/// operations a number, so memory is the limit. Roofline of a million numbers, H200 (4.8 TB/s) | A100 (2.0 TB/s): float
/// 0.83 | 2.0 us, double 1.7 | 4.0 us. A parameter of fewer than about 100000 numbers does not fill the device: its
/// time is that of `batch` reads one after the other. 64 or 256 threads; registers sm_80 | sm_90 48 | 42 in float
/// (62 %), 32 | 34 in double (100 | 75 %); 1 or 2 KiB of shared memory.
#pragma once

#include "dpopt/cuda/dialect.cuh"
#include "dpopt/cuda/rows.cuh"
#include "dpopt/cuda/vector_load.cuh"
#include "dpopt/gradients/per_sample_gradients.hpp"

namespace dpopt::cuda {

/// Factors that a block holds in shared memory at a time.
inline constexpr int staged_factors = 256;

/// A thread a vector of columns. Factors are narrowed as rounded_down does; a sample of factor 0 is not read. Vectors
/// where rows and `out` are aligned for them, single numbers elsewhere: the same sums.
template <class U, class Out>
__global__ void add_weighted_rows(row_view<U> rows, const double* factors, Out* out) {
  using product = product_type<U, Out>;
  constexpr isize each = per_vector<U>;
  DPOPT_SHARED(product, scales, staged_factors);
  const isize thread = threadIdx.x, threads = static_cast<isize>(blockDim.x);
  const bool aligned = is_vector_aligned(rows.first) && rows.stride % each == 0;

  for (isize first = blockIdx.x * threads * each; first < rows.size; first += gridDim.x * threads * each) {
    const bool vectors = aligned && first + threads * each <= rows.size;
    // Column j of this thread is `start + j * step`; those at or beyond `end` do not exist.
    const isize start = first + (vectors ? thread * each : thread), step = vectors ? 1 : threads;
    Out sums[each];
    for (isize j = 0; j < each; ++j) sums[j] = start + j * step < rows.size ? out[start + j * step] : Out(0);

    for (isize base = 0; base < rows.batch; base += staged_factors) {
      const isize rest = rows.batch - base;
      const isize here = rest < staged_factors ? rest : staged_factors;
      __syncthreads(); // everybody is done with the factors before
      for (isize i = thread; i < here; i += threads)
        scales[i] = factors[base + i] == 0 ? product(0) : rounded_down<Out, product>(factors[base + i]);
      __syncthreads();
      for (isize i = 0; i < here; ++i) {
        const product scale = scales[i]; // the same for all threads: no lane diverges
        if (scale == 0) continue;
        const U* const row = rows.row(base + i);
        if (vectors) {
          const vector_of<U> part = load_vector(row + start);
          for (isize j = 0; j < each; ++j) sums[j] += static_cast<Out>(scale * static_cast<product>(part.values[j]));
        } else {
          for (isize j = 0; j < each; ++j)
            if (start + j * step < rows.size)
              sums[j] += static_cast<Out>(scale * static_cast<product>(row[start + j * step]));
        }
      }
    }
    for (isize j = 0; j < each; ++j)
      if (start + j * step < rows.size) out[start + j * step] = sums[j];
  }
}

template <class U>
[[nodiscard]] constexpr launch_shape weighted_rows_shape(isize batch, isize size) noexcept {
  return batch == 0 ? launch_shape{0, 256} : cover(size, size < 65536 ? 64 : 256, per_vector<U>);
}

} // namespace dpopt::cuda
