// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// sum[i] += noise[i] modulo 2^64: hardened noise, drawn by the host, joins the sums of the integer grid.
///
/// Integers alone: between the exact sampler and the noisy sum there is no floating-point number. Wrapping is a
/// function of the exact noisy sum and costs no privacy (sodium/hardened_gaussian.hpp).
///
/// Who launches it: host_noise, once for each piece of noise that has reached the device, before release_once.
/// Memory: 24 bytes an element, 5.0 us a million on H200 (4.8 TB/s), 12 us on A100 (2.0 TB/s); one addition each. The
/// copy of the noise over PCIe (8 bytes at 25 to 55 GB/s) takes 30 times as long, drawing it on the host longer still.
/// Occupancy: blocks of 256 threads, no shared memory; 28 registers: 8 blocks a multiprocessor.
#pragma once

#include "dpopt/core/types.hpp"
#include "dpopt/cuda/dialect.cuh"
#include "dpopt/cuda/lane_access.cuh"

#include <cstdint>
#include <type_traits>

namespace dpopt::cuda {

inline constexpr int integers_a_thread = 2; // 16 bytes

/// Blocks and threads of add_integers.
[[nodiscard]] constexpr launch_shape add_integers_shape(isize n) noexcept { return cover(n, 256, integers_a_thread); }

/// On sum[0, n) and noise[0, n), which do not overlap. Any grid and any block.
template <class V>
__global__ void __launch_bounds__(256) add_integers(V* sum, const V* noise, isize n) {
  static_assert(std::is_same_v<V, std::int64_t>);
  const isize stride = static_cast<isize>(gridDim.x) * blockDim.x * integers_a_thread;
  for (isize at = (static_cast<isize>(blockIdx.x) * blockDim.x + threadIdx.x) * integers_a_thread; at < n;
       at += stride) {
    const lane_part part = part_within<integers_a_thread>(at, 0, n);
    V x[integers_a_thread];
    V y[integers_a_thread];
    load_part(sum, part, x);
    load_part(noise, part, y);
    for (int j = 0; j < integers_a_thread; ++j)
      x[j] = static_cast<V>(static_cast<std::uint64_t>(x[j]) + static_cast<std::uint64_t>(y[j]));
    store_part(sum, part, x);
  }
}

} // namespace dpopt::cuda
