// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// add_squared_norms of a linear layer from its factors: |a_i|^2 |e_i|^2 for the weight, |e_i|^2 for the bias, whose
/// output gradients are read once for both.
///
/// Launched by cuda::linear_weight. Bytes: inputs + outputs numbers a sample, read once; 3 operations in double each.
/// Roofline of a million numbers read, H200 (4.8 TB/s) | A100 (2.0 TB/s): float 0.83 | 2.0 us. 128 threads; registers
/// sm_80 | sm_90 54 | 52 in float, 70 | 60 in double (56 | 50 % of a multiprocessor); no shared memory.
#pragma once

#include "dpopt/cuda/dialect.cuh"
#include "dpopt/cuda/rows.cuh"
#include "dpopt/cuda/squared_norm.cuh"

#include <limits>

namespace dpopt::cuda {

/// |a|^2 |e|^2, an upper bound as its factors are.
[[nodiscard]] __device__ inline double outer_squared_norm(double a, double e) {
  double product = a * e;
  if (product < underflow_matters_below && a > 0 && e > 0) product += std::numeric_limits<double>::denorm_min();
  return upper_bound_of_sum(product, 1);
}

/// The weight's squared norm of sample i by one warp, all of whose lanes must come.
template <class U>
[[nodiscard]] __device__ inline double warp_squared_norm(const outer_view<U>& factors, isize i) {
  const double a = warp_squared_norm(factors.inputs.row(i), factors.inputs.size);
  return outer_squared_norm(a, warp_squared_norm(factors.outputs.row(i), factors.outputs.size));
}

/// A warp a sample. weight_norms[i] += |a_i|^2 |e_i|^2 and, where bias_norms is not null, bias_norms[i] += |e_i|^2; the
/// two may be one array (flat clipping).
template <class U>
__global__ void add_linear_norms(outer_view<U> factors, double* weight_norms, double* bias_norms) {
  const isize warps = static_cast<isize>(blockDim.x) / warp_size;
  for (isize i = blockIdx.x * warps + threadIdx.x / warp_size; i < factors.inputs.batch; i += warps * gridDim.x) {
    const double a = warp_squared_norm(factors.inputs.row(i), factors.inputs.size);
    const double e = warp_squared_norm(factors.outputs.row(i), factors.outputs.size);
    if (threadIdx.x % warp_size != 0) continue;
    weight_norms[i] += outer_squared_norm(a, e);
    if (bias_norms != nullptr) bias_norms[i] += e;
  }
}

[[nodiscard]] constexpr launch_shape linear_norms_shape(isize batch) noexcept { return cover(batch * warp_size, 128); }

} // namespace dpopt::cuda
