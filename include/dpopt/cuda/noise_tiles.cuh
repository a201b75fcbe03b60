// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The numbers of counter_gaussian as a warp draws them, and the walk of a block over the tiles of a chunk.
///
/// A tile of the stream is 32 Philox blocks: lane l draws block 32 tile + l, which makes the elements l, l + 32, ... of
/// the tile. A warp then turns them in shared memory, so that lane l holds the neighbours w l ... w l + w - 1 and
/// memory moves 16 bytes a thread. Per element: about 15 integer and 40 floating-point instructions in float, which is
/// 0.5e12 numbers a second on H200: as much as memory takes for noise alone (8 bytes), a third of the time of a fused
/// update.
#pragma once

#include "dpopt/core/platform.hpp"
#include "dpopt/core/types.hpp"
#include "dpopt/cuda/dialect.cuh"
#include "dpopt/cuda/gaussian_stream.hpp"
#include "dpopt/cuda/lane_access.cuh"
#include "dpopt/cuda/tensor_chunks.hpp"
#include "dpopt/noise/box_muller.hpp"
#include "dpopt/noise/philox.hpp"

#include <array>
#include <cstdint>

namespace dpopt::cuda {

/// Most threads of the blocks that work on chunks: 8 warps, a tile each at a time.
inline constexpr int chunk_threads = 256;

/// Numbers of R that one Philox block makes: 4 floats or 2 doubles.
template <class R>
inline constexpr int numbers_a_lane = static_cast<int>(16 / sizeof(R));

/// One block of threads a chunk, up to a number that keeps every multiprocessor busy.
[[nodiscard]] constexpr launch_shape chunk_shape(isize chunks) noexcept {
  constexpr isize most = isize{1} << 20;
  return {static_cast<unsigned>(chunks < most ? chunks : most), chunk_threads};
}

/// The numbers of a Philox block: out[j] is element 32 j + lane of the tile.
DPOPT_FORCE_INLINE DPOPT_NO_CONTRACT DPOPT_DEVICE inline void normals_of(const std::array<std::uint32_t, 4>& word,
                                                                         float (&out)[4]) {
  using one = std::array<std::uint32_t, 1>;
  dpopt::detail::box_muller(one{word[0]}, one{word[2]}, out);
  dpopt::detail::box_muller(one{word[1]}, one{word[3]}, out + 2);
}
DPOPT_FORCE_INLINE DPOPT_NO_CONTRACT DPOPT_DEVICE inline void normals_of(const std::array<std::uint32_t, 4>& word,
                                                                         double (&out)[2]) {
  using one = std::array<std::uint32_t, 1>;
  dpopt::detail::box_muller(one{word[0]}, one{word[1]}, one{word[2]}, one{word[3]}, out);
}

/// Called by whole warps. out[j] is element w lane + j of the tile; `room` is shared memory for a tile, the warp's own.
template <class R>
__device__ inline void draw_tile(const gaussian_stream<R>& stream, std::uint32_t parameter, std::uint64_t tile,
                                 int lane, R* room, R (&out)[numbers_a_lane<R>]) {
  constexpr int width = numbers_a_lane<R>;
  const std::uint64_t block = tile * warp_size + static_cast<std::uint64_t>(lane);
  R drawn[width];
  normals_of(philox4x32_10(stream.counter(parameter, block), stream.key), drawn);
  __syncwarp(all_lanes); // until the last tile has been read
  for (int j = 0; j < width; ++j) room[j * warp_size + lane] = drawn[j];
  __syncwarp(all_lanes);
  for (int j = 0; j < width; ++j) out[j] = room[width * lane + j];
}

/// f(tile, part) for the tiles of the stream that hold elements of the chunk, a warp each; `part` says which of the
/// lane's elements of the tile are in the chunk. All lanes of a warp call f together, also those without an element.
/// @param place where the tensor's element 0 stands in the stream.
template <class R, class F>
__device__ inline void for_each_tile(const tensor_chunk& chunk, const stream_place& place, F f) {
  constexpr std::uint64_t size = static_cast<std::uint64_t>(warp_size * numbers_a_lane<R>);
  const int lane = static_cast<int>(threadIdx.x % warp_size);
  const std::uint64_t begin = place.element + static_cast<std::uint64_t>(chunk.first);
  const std::uint64_t last = (begin + static_cast<std::uint64_t>(chunk.count) - 1) / size;
  const isize end = chunk.first + chunk.count;
  for (std::uint64_t tile = begin / size + threadIdx.x / warp_size; tile <= last; tile += blockDim.x / warp_size) {
    const auto at =
        static_cast<isize>(tile * size + static_cast<std::uint64_t>(numbers_a_lane<R> * lane) - place.element);
    f(tile, part_within<numbers_a_lane<R>>(at, chunk.first, end));
  }
}

} // namespace dpopt::cuda
