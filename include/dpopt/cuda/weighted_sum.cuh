// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// add_weighted_sum of materialized rows: out[k] += the sum over samples of factors[i] rows[i][k], samples in their
/// order, so that the bits are those of materialized on the CPU.
///
/// Launched by cuda::materialized; outer products are added so by many_parameters.cuh alone. Bytes: each number of a
/// kept sample is read once, `out` is read and written once; 2 operations a number, so memory is the limit. Roofline of
/// a million numbers, H200 (4.8 TB/s) | A100 (2.0 TB/s): float 0.83 | 2.0 us, double 1.7 | 4.0 us. A parameter of fewer
/// than about 100000 numbers does not fill the device: its time is that of `batch` reads one after the other. 64 or 256
/// threads; registers sm_80 | sm_90 48 | 40 in float (62 | 75 %), 32 | 46 in double (100 | 62 %); 1 or 2 KiB of shared
/// memory.
#pragma once

#include "dpopt/cuda/dialect.cuh"
#include "dpopt/cuda/rows.cuh"
#include "dpopt/cuda/vector_load.cuh"
#include "dpopt/gradients/per_sample_gradients.hpp"

#include <cmath>

namespace dpopt::cuda {

/// Factors that a block holds in shared memory at a time.
inline constexpr int staged_factors = 256;

/// Calls f(i, scale) for each sample whose factor is not 0, in their order; scale is the factor as rounded_down narrows
/// it to Scale. All threads of a block must come: no lane diverges.
/// @param scales shared memory, staged_factors of Scale.
template <class Out, class Scale, class Shared, class F>
__device__ inline void for_each_kept(const double* factors, isize batch, Shared& scales, F&& f) {
  const isize threads = static_cast<isize>(blockDim.x);
  for (isize base = 0; base < batch; base += staged_factors) {
    const isize rest = batch - base;
    const isize here = rest < staged_factors ? rest : staged_factors;
    __syncthreads(); // everybody is done with the factors before
    for (isize i = threadIdx.x; i < here; i += threads)
      scales[i] = factors[base + i] == 0 ? Scale(0) : rounded_down<Out, Scale>(factors[base + i]);
    __syncthreads();
    for (isize i = 0; i < here; ++i)
      if (const Scale scale = scales[i]; scale != 0) f(base + i, scale);
  }
}

/// out[k] += the sum for the elements of one chunk, as many as a block has threads times columns_a_thread. A thread a
/// vector of columns where rows and `out` are aligned for them, single ones elsewhere: the same sums. All threads of a
/// block must come. scales: as for for_each_kept.
template <class U, class Out, class Shared>
__device__ inline void add_weighted_chunk(const row_view<U>& rows, const double* factors, Out* out, isize chunk,
                                          Shared& scales) {
  using product = product_type<U, Out>;
  constexpr isize each = row_view<U>::columns_a_thread;
  const isize thread = threadIdx.x, threads = static_cast<isize>(blockDim.x);
  const isize first = chunk * threads * each;
  if (first >= rows.size) return;
  const bool vectors = is_vector_aligned(rows.first) && rows.stride % each == 0 && first + threads * each <= rows.size;
  // Column j of this thread is `start + j * step`; those at or beyond `end` do not exist.
  const isize start = first + (vectors ? thread * each : thread), step = vectors ? 1 : threads;
  Out sums[each];
  for (isize j = 0; j < each; ++j) sums[j] = start + j * step < rows.size ? out[start + j * step] : Out(0);
  for_each_kept<Out, product>(factors, rows.batch, scales, [&](isize i, product scale) {
    const U* const row = rows.row(i);
    if (vectors) {
      const vector_of<U> part = load_vector(row + start);
      for (isize j = 0; j < each; ++j) sums[j] += static_cast<Out>(scale * static_cast<product>(part.values[j]));
    } else {
      for (isize j = 0; j < each; ++j)
        if (start + j * step < rows.size)
          sums[j] += static_cast<Out>(scale * static_cast<product>(row[start + j * step]));
    }
  });
  for (isize j = 0; j < each; ++j)
    if (start + j * step < rows.size) out[start + j * step] = sums[j];
}

/// The same of outer products, a thread an element: for layers that are too small for a product of matrices. Both
/// factors meet in Out, the output gradient scaled and rounded as the core's scale_row does, or in double where that
/// takes it out of range and the input brings it back.
template <FactoredView View, class Out, class Shared>
__device__ inline void add_weighted_chunk(const View& v, const double* factors, Out* out, isize chunk, Shared& scales) {
  const isize first = chunk * static_cast<isize>(blockDim.x), k = first + threadIdx.x;
  if (first >= v.elements()) return;
  const bool mine = k < v.elements();
  const outer_place at = v.place(mine ? k : first);
  Out sum = mine ? out[k] : Out(0);
  for_each_kept<Out, double>(factors, v.samples(), scales, [&](isize i, double scale) {
    for (isize t = 0; t < v.positions(); ++t) {
      const double exact = scale * static_cast<double>(v.output(i, t)[at.output]);
      const double a = static_cast<double>(v.input(i, t)[at.input]);
      const bool lost = leaves_range<Out>(exact) && (std::abs(exact) > 1 || std::abs(a) > enlarges_losses);
      sum += lost ? static_cast<Out>(exact * a) : narrowed<Out>(exact) * static_cast<Out>(a);
    }
  });
  if (mine) out[k] = sum;
}

/// out[k] += the sum of all rows.
template <class U, class Out>
__global__ void add_weighted_rows(row_view<U> rows, const double* factors, Out* out) {
  using product = product_type<U, Out>;
  DPOPT_SHARED(product, scales, staged_factors);
  const isize columns = static_cast<isize>(blockDim.x) * row_view<U>::columns_a_thread;
  for (isize chunk = blockIdx.x; chunk * columns < rows.size; chunk += gridDim.x)
    add_weighted_chunk(rows, factors, out, chunk, scales);
}

template <class U>
[[nodiscard]] constexpr launch_shape weighted_rows_shape(isize batch, isize size) noexcept {
  return batch == 0 ? launch_shape{0, 256} : cover(size, size < 65536 ? 64 : 256, per_vector<U>);
}

} // namespace dpopt::cuda
