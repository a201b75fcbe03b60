// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// x[i] += std x N(0, 1): counter_gaussian::add on the device, with the CPU's bits for every address.
///
/// Who launches it: a program that wants noise alone. A step uses release_once, which reads and writes each sum once
/// for all stages.
///
/// Memory: 8 bytes an element in float, 16 in double. Per million floats 1.7 us on H200, 4.0 us on A100, where drawing
/// takes as long: both limits are near each other (see noise_tiles.cuh).
/// Occupancy: blocks of 256 threads and 4 KiB of shared memory; registers in float 48 (sm_80) and 45 (sm_90), in double
/// 56 and 51: 5 and 4 blocks a multiprocessor.
#pragma once

#include "dpopt/core/platform.hpp"
#include "dpopt/core/types.hpp"
#include "dpopt/cuda/dialect.cuh"
#include "dpopt/cuda/gaussian_stream.hpp"
#include "dpopt/cuda/lane_access.cuh"
#include "dpopt/cuda/noise_tiles.cuh"
#include "dpopt/cuda/tensor_chunks.hpp"

#include <concepts>

namespace dpopt::cuda {

/// One tensor that receives noise. require_in_stream() was called for it.
template <std::floating_point R>
struct noise_tensor {
  R* x;
  stream_place place;
};

/// x + scale x normal, in two roundings as on the CPU.
template <std::floating_point R>
[[nodiscard]] DPOPT_FORCE_INLINE DPOPT_NO_CONTRACT DPOPT_DEVICE inline R noisy(R x, R scale, R normal) {
  DPOPT_NO_CONTRACT_BLOCK
  return x + scale * normal;
}

/// Called by a whole block.
template <std::floating_point R>
__device__ inline void add_noise_to_chunk(const tensor_chunk& chunk, const noise_tensor<R>& to,
                                          const gaussian_stream<R>& stream, R* room) {
  for_each_tile<R>(chunk, to.place, [&](std::uint64_t tile, const lane_part& part) {
    R x[numbers_a_lane<R>];
    load_part(to.x, part, x);
    R normal[numbers_a_lane<R>];
    draw_tile(stream, to.place.parameter, tile, static_cast<int>(threadIdx.x % warp_size), room, normal);
    for (int j = 0; j < numbers_a_lane<R>; ++j) x[j] = noisy(x[j], stream.scale, normal[j]);
    store_part(to.x, part, x);
  });
}

/// Noise on all chunks of the table: chunk_shape(chunk_count).
template <std::floating_point R>
__global__ void __launch_bounds__(chunk_threads)
    add_gaussian_noise(const tensor_chunk* chunks, isize chunk_count, const noise_tensor<R>* tensors,
                       gaussian_stream<R> stream) {
  DPOPT_SHARED(R, room, chunk_threads * numbers_a_lane<R>);
  R* const mine = room + threadIdx.x / warp_size * (warp_size * numbers_a_lane<R>);
  for (isize k = blockIdx.x; k < chunk_count; k += gridDim.x) {
    const tensor_chunk chunk = chunks[k];
    const noise_tensor<R> to = tensors[chunk.tensor]; // a copy: the compiler may keep it while x is written
    add_noise_to_chunk(chunk, to, stream, mine);
  }
}

/// Noise on x[0, n), without a table: range_shape(n).
template <std::floating_point R>
__global__ void __launch_bounds__(chunk_threads)
    add_gaussian_noise_to_range(noise_tensor<R> to, isize n, gaussian_stream<R> stream) {
  DPOPT_SHARED(R, room, chunk_threads * numbers_a_lane<R>);
  R* const mine = room + threadIdx.x / warp_size * (warp_size * numbers_a_lane<R>);
  for (isize k = blockIdx.x; k * chunk_elements < n; k += gridDim.x) {
    const isize first = k * chunk_elements;
    const isize count = n - first < chunk_elements ? n - first : chunk_elements;
    add_noise_to_chunk({first, static_cast<std::int32_t>(count), 0}, to, stream, mine);
  }
}

[[nodiscard]] constexpr launch_shape range_shape(isize n) noexcept {
  return cover(n, chunk_threads, chunk_elements / chunk_threads);
}

} // namespace dpopt::cuda
