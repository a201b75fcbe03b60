// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// fused_release for each step at most once, also when a graph that holds it is launched again.
///
/// Constants cross into kernels by value, so a captured step that is replayed would draw the noise of the step that was
/// captured: the difference of two such releases is the difference of two exact sums. A number in device memory says
/// which steps are over; a release of one of them writes nothing but zeros into the sums, so that the samples that the
/// replay added are dropped with it.
///
/// Who launches it: device_release, as the last two kernels of a step: permit_release, whose failure leaves everything
/// as it was, then release_once. Memory and occupancy are fused_release's; the permit is one cached load a block, and
/// permit_release a launch of one thread's work.
#pragma once

#include "dpopt/core/types.hpp"
#include "dpopt/cuda/dialect.cuh"
#include "dpopt/cuda/element_updates.hpp"
#include "dpopt/cuda/fused_release.cuh"
#include "dpopt/cuda/noise_tiles.cuh"
#include "dpopt/cuda/release_terms.hpp"
#include "dpopt/cuda/tensor_chunks.hpp"

#include <cstdint>

namespace dpopt::cuda {

/// In device memory; starts as zeros.
struct release_permit {
  std::uint64_t next_step; ///< the first that is not over
  std::uint64_t granted;   ///< 1: the release that follows on the stream may happen
};

/// Ends step `step`, or notices that it ended before. One warp; a template, as all kernels: nvcc has no inline ones.
template <class Permit>
__global__ void permit_release(Permit* permit, std::uint64_t step) {
  if (threadIdx.x != 0) return;
  permit->granted = permit->next_step <= step ? 1 : 0;
  if (permit->granted == 1) permit->next_step = step + 1;
}

/// All chunks of the table: chunk_shape(chunk_count).
template <class V, class T, ElementUpdate Update>
__global__ void __launch_bounds__(chunk_threads)
    release_once(const release_permit* permit, const tensor_chunk* chunks, isize chunk_count,
                 const release_tensor<V, T, Update::slots>* tensors, release_terms<V> terms, Update update) {
  using noise_type = noise_type_of<V>;
  DPOPT_SHARED(noise_type, room, chunk_threads * numbers_a_lane<noise_type>);
  noise_type* const mine = room + threadIdx.x / warp_size * (warp_size * numbers_a_lane<noise_type>);
  const bool granted = permit->granted == 1; // the same in all blocks
  for (isize k = blockIdx.x; k < chunk_count; k += gridDim.x) {
    const tensor_chunk chunk = chunks[k];
    const auto to = tensors[chunk.tensor];
    if (granted) release_chunk(chunk, to, terms, update, mine);
    else
      for (isize i = threadIdx.x; i < chunk.count; i += blockDim.x) to.sum[chunk.first + i] = V{};
  }
}

} // namespace dpopt::cuda
