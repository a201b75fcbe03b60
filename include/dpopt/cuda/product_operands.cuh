// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The two operands of the product that is a factored layer's weighted sum: the output gradients scaled by the factors,
/// and the activations as they are. A product of matrices multiplies every row, and 0 x NaN is NaN: rows of dropped
/// samples are zeros in both.
///
/// Launched by cuda::linear_weight and cuda::linear_sequence in front of the product. Bytes: each number is read and
/// written once; 3 operations in double to scale it. Roofline of a million floats, H200 (4.8 TB/s) | A100 (2.0 TB/s):
/// 1.7 | 4.0 us. 256 threads; registers sm_80 | sm_90 64 | 56 (50 % of a multiprocessor); no shared memory.
#pragma once

#include "dpopt/cuda/dialect.cuh"
#include "dpopt/cuda/reduce.cuh"
#include "dpopt/cuda/rows.cuh"
#include "dpopt/gradients/per_sample_gradients.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace dpopt::cuda {

/// A warp a position r = i * positions + t of sample i, whose rows are written dense:
/// scaled[r * outputs + k] = factors[i] x output gradient k, rounded down as the core's scale_row does;
/// selected[r * inputs + k] = activation k. Where that takes a row out of the range of Out and activations bring it
/// back, both are balanced by a power of two, so that the largest activation is from 1 to 2: what is scaled is then no
/// larger than a contribution, and what it loses stays small. Zeros in both where factors[i] is 0, and such rows are
/// not read.
template <class U, class Out>
__global__ void product_operands(sequence_view<U> v, const double* factors, Out* scaled, Out* selected) {
  const isize warps = static_cast<isize>(blockDim.x) / warp_size, positions = v.inputs.positions;
  const isize lane = threadIdx.x % warp_size;
  for (isize r = blockIdx.x * warps + threadIdx.x / warp_size; r < v.inputs.samples * positions;
       r += warps * gridDim.x) {
    const isize i = r / positions, t = r - i * positions;
    const bool kept = factors[i] != 0;
    const double factor = kept ? rounded_down<Out, double>(factors[i]) : 0;
    const U *const e = v.outputs.row(i, t), *const a = v.inputs.row(i, t);
    bool lost = false, cut = false;
    for (isize k = lane; k < v.outputs.size; k += warp_size) {
      const double exact = kept ? factor * static_cast<double>(e[k]) : 0;
      scaled[r * v.outputs.size + k] = narrowed<Out>(exact);
      lost = lost || leaves_range<Out>(exact);
      cut = cut || std::abs(exact) > static_cast<double>(std::numeric_limits<Out>::max());
    }
    for (isize k = lane; k < v.inputs.size; k += warp_size)
      selected[r * v.inputs.size + k] = kept ? static_cast<Out>(a[k]) : Out(0);
    if (__any_sync(all_lanes, lost) == 0) continue;
    double largest = 0;
    for (isize k = lane; k < v.inputs.size; k += warp_size)
      largest = std::max(largest, std::abs(static_cast<double>(a[k])));
    largest = warp_largest(largest);
    if (largest == 0 || (largest <= enlarges_losses && __any_sync(all_lanes, cut) == 0)) continue;
    const int exponent = std::ilogb(largest);
    const double up = std::ldexp(factor, exponent);
    for (isize k = lane; k < v.outputs.size; k += warp_size)
      scaled[r * v.outputs.size + k] = narrowed<Out>(up * static_cast<double>(e[k]));
    for (isize k = lane; k < v.inputs.size; k += warp_size)
      selected[r * v.inputs.size + k] = static_cast<Out>(std::ldexp(static_cast<double>(a[k]), -exponent));
  }
}

[[nodiscard]] constexpr launch_shape product_operands_shape(isize samples, isize positions) noexcept {
  return cover(samples * positions * warp_size);
}

} // namespace dpopt::cuda
