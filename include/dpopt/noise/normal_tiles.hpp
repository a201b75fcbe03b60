// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The inner loop of counter_gaussian: Philox blocks become normal numbers, are scaled and added, a tile at a time.
///
/// Compiled for each vector_level and chosen when it runs. All levels give the same bits, because every operation is
/// exact or correctly rounded, in one fixed order for each element, and never fused. Allocates nothing.
#pragma once

#include "dpopt/core/platform.hpp"
#include "dpopt/core/vector_dispatch.hpp"
#include "dpopt/core/vector_operations.hpp"
#include "dpopt/noise/box_muller.hpp"
#include "dpopt/noise/normal_vectors.hpp"
#include "dpopt/noise/philox.hpp"
#include "dpopt/noise/philox_vectors.hpp"

#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>

namespace dpopt::detail {

/// Elements are drawn in tiles of 32 Philox blocks: element e is number e % size of tile e / size, which is made of
/// the blocks 32 (e / size) + 0..31. The layout is part of the stream's definition (tests/golden/noise). Why 32: with
/// 16 turns a loop, g++ -O3 unrolls Philox before it can vectorise it, at half the speed.
inline constexpr std::size_t tile_blocks = 32;

/// 128 floats (4 a block) or 64 doubles (2 a block).
template <std::floating_point V>
inline constexpr std::size_t normal_tile_size = tile_blocks * 4 * sizeof(std::uint32_t) / sizeof(V);

/// One tile, or the blocks of one, as an array.
template <std::floating_point V>
using normal_tile = std::array<V, normal_tile_size<V>>;

DPOPT_FORCE_INLINE inline void fill_tile(const philox_batch<tile_blocks>& bits, normal_tile<float>& out) {
  box_muller(bits.word[0], bits.word[2], out.data());
  box_muller(bits.word[1], bits.word[3], out.data() + 2 * tile_blocks);
}

DPOPT_FORCE_INLINE inline void fill_tile(const philox_batch<tile_blocks>& bits, normal_tile<double>& out) {
  box_muller(bits.word[0], bits.word[1], bits.word[2], bits.word[3], out.data());
}

/// x[i] += scale * normal[i] for `tiles` whole tiles, the first from `counter`, which ends behind the last.
template <std::size_t Bytes, std::floating_point V>
DPOPT_FORCE_INLINE DPOPT_NO_CONTRACT inline void add_tiles(vector_bytes<Bytes> width, philox_counter& counter,
                                                           philox_key key, V scale, V* x, std::size_t tiles) {
  DPOPT_NO_CONTRACT_BLOCK
  const philox_round_keys keys(key);
  if constexpr (has_wide_words && std::same_as<V, float>) {
    add_normal_vectors<tile_blocks, Bytes>(counter, keys, scale, x, tiles);
  } else {
    philox_batch<tile_blocks> bits;
    normal_tile<V> normal;
    for (; tiles > 0; --tiles) {
      philox_blocks(width, counter, keys, bits);
      fill_tile(bits, normal);
      for (std::size_t i = 0; i < normal.size(); ++i) x[i] += scale * normal[i];
      x += normal.size();
      advance(counter, tile_blocks);
    }
  }
}

/// add_tiles() as compiled for a level, which runs_here().
template <std::floating_point V>
void add_normal_tiles(vector_level level, philox_counter& counter, const philox_key& key, V scale, V* x,
                      std::size_t tiles) {
  at_vector_level(level, [&](auto width) DPOPT_FORCE_INLINE_LAMBDA {
    philox_counter now = counter;
    add_tiles(width, now, philox_key(key), scale, x, tiles);
    counter = now;
  });
}

} // namespace dpopt::detail
