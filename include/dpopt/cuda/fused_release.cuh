// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The stages after the reduction in ONE pass over all tensors: noise, unit, divisor, base optimizer, and the sum set
/// to zero for the next step. release_tile() and update() of the CPU, with the same bits.
///
/// Who launches it: a program with a loop of its own. An optimizer's step() is release_once (release_once.cuh), which
/// shares release_chunk with this kernel and happens at most once. Sums may be float, double or the integer grid's
/// 64-bit integers; with hardened noise, which was added to the integers before (add_integers.cuh), there is nothing to
/// draw here.
///
/// Memory in bytes an element, sums and values of 4 bytes: sgd 16, with momentum 24, adam 32; 8 more a sum for the
/// integer grid, 4 for a gradient that is written. Flops: about 55 a number drawn, 5 to 15 for the update. Roofline for
/// a million elements in us, H200 (4.8 TB/s) / A100 (2.0 TB/s): sgd 3.3 / 8, momentum 5 / 12, adam 6.7 / 16.
/// Occupancy: blocks of 256 threads and 4 KiB of shared memory; registers on sm_80 and sm_90 64 to 68 for sgd, 68 to 76
/// for adam, at most 80: 3 blocks a multiprocessor, whose 24 warps have 48 bytes a thread under way, twice what hides
/// the latency of memory.
///
/// A sum that is NaN gives NaN, though with the device's bits of it and not the CPU's.
#pragma once

#include "dpopt/core/platform.hpp"
#include "dpopt/core/types.hpp"
#include "dpopt/cuda/dialect.cuh"
#include "dpopt/cuda/element_updates.hpp"
#include "dpopt/cuda/gaussian_stream.hpp"
#include "dpopt/cuda/lane_access.cuh"
#include "dpopt/cuda/noise_tiles.cuh"
#include "dpopt/cuda/release_terms.hpp"
#include "dpopt/cuda/tensor_chunks.hpp"

#include <cstddef>

namespace dpopt::cuda {

/// One parameter. Where its element 0 stands in the stream is `place`; require_in_stream() was called for it.
template <class V, class T, std::size_t Slots>
struct release_tensor {
  V* sum;
  T* value;                       ///< null: the gradient is all that is wanted
  T* gradient;                    ///< null: not wanted
  element_state<T*, Slots> slots; ///< state arrays, null where there is none
  stream_place place;
};

/// Called by a whole block.
template <class V, class T, ElementUpdate Update>
__device__ inline void release_chunk(const tensor_chunk& chunk, const release_tensor<V, T, Update::slots>& to,
                                     const release_terms<V>& terms, const Update& update, noise_type_of<V>* room) {
  using noise_type = noise_type_of<V>;
  constexpr int width = numbers_a_lane<noise_type>;
  constexpr int state_arrays = static_cast<int>(Update::slots);
  for_each_tile<noise_type>(chunk, to.place, [&](std::uint64_t tile, const lane_part& part) {
    V sum[width];
    T x[width] = {};
    T state[state_arrays == 0 ? 1 : state_arrays][width] = {};
    load_part(to.sum, part, sum); // all reads first: drawing hides their latency
    if (to.value) load_part(to.value, part, x);
    for (int s = 0; s < state_arrays; ++s)
      if (update.uses(static_cast<std::size_t>(s))) load_part(to.slots[static_cast<std::size_t>(s)], part, state[s]);

    noise_type normal[width] = {};
    if (terms.noisy)
      draw_tile(terms.stream, to.place.parameter, tile, static_cast<int>(threadIdx.x % warp_size), room, normal);

    T gradient[width];
    for (int j = 0; j < width; ++j) {
      gradient[j] = terms.template released<T>(sum[j], normal[j]);
      sum[j] = V{};
      element_state<T, Update::slots> mine{};
      for (int s = 0; s < state_arrays; ++s) mine[static_cast<std::size_t>(s)] = state[s][j];
      update(x[j], gradient[j], mine);
      for (int s = 0; s < state_arrays; ++s) state[s][j] = mine[static_cast<std::size_t>(s)];
    }

    store_part(to.sum, part, sum);
    if (to.gradient) store_part(to.gradient, part, gradient);
    if (to.value) store_part(to.value, part, x);
    for (int s = 0; s < state_arrays; ++s)
      if (update.uses(static_cast<std::size_t>(s))) store_part(to.slots[static_cast<std::size_t>(s)], part, state[s]);
  });
}

/// All chunks of the table: chunk_shape(chunk_count). A tensor whose `value` is null is not updated, so its slots may
/// be null only with an update that does not use them.
template <class V, class T, ElementUpdate Update>
__global__ void __launch_bounds__(chunk_threads)
    fused_release(const tensor_chunk* chunks, isize chunk_count, const release_tensor<V, T, Update::slots>* tensors,
                  release_terms<V> terms, Update update) {
  using noise_type = noise_type_of<V>;
  DPOPT_SHARED(noise_type, room, chunk_threads * numbers_a_lane<noise_type>);
  noise_type* const mine = room + threadIdx.x / warp_size * (warp_size * numbers_a_lane<noise_type>);
  for (isize k = blockIdx.x; k < chunk_count; k += gridDim.x) {
    const tensor_chunk chunk = chunks[k];
    const auto to = tensors[chunk.tensor]; // a copy: the compiler may keep it while sums are written
    release_chunk(chunk, to, terms, update, mine);
  }
}

} // namespace dpopt::cuda
