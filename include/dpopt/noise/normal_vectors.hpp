// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Normal floats in vector registers: Box-Muller of some blocks, woven with Philox of the blocks after them.
///
/// Each of the two waits for its own results, in chains of 30 and 60 operations, and a processor looks for other work
/// only as far as its schedulers hold instructions that wait (64 in Zen 4). So it is put within reach: rounds of Philox
/// stand between the stages of Box-Muller.
#pragma once

#include "dpopt/core/platform.hpp"
#include "dpopt/core/vector_operations.hpp"
#include "dpopt/noise/box_muller.hpp"
#include "dpopt/noise/philox.hpp"
#include "dpopt/noise/philox_vectors.hpp"

#include <cstddef>
#include <cstring>

namespace dpopt::detail {

/// Draws the blocks from `counter` in four parts and their words in finish(), which moves `counter` behind them.
template <std::size_t Bytes>
struct next_blocks {
  philox_counter& counter;
  const philox_round_keys& keys;
  philox_vectors<Bytes> philox;

  template <int Part>
  DPOPT_FORCE_INLINE void draw() {
    constexpr int until[] = {0, 2, 4, 7, 9}; // rounds; the best of what was tried
    if constexpr (Part == 0) philox.start(counter);
    philox.template rounds<until[Part], until[Part + 1]>(keys);
  }
  DPOPT_FORCE_INLINE void finish(uniform_vectors<Bytes>& words) {
    philox.finish(keys, words);
    advance(counter, philox.blocks);
  }
};

/// Where no blocks are left to draw.
struct no_blocks {
  template <int Part>
  DPOPT_FORCE_INLINE void draw() {}
};

/// x[i] += scale * normal[i] for the numbers of `words`. x is that of the first block, in a tile of `Row` blocks: from
/// words 0 and 2 x and y coordinates, `Row` apart, behind them from words 1 and 3.
template <std::size_t Row, std::size_t Bytes, class Next>
DPOPT_FORCE_INLINE DPOPT_NO_CONTRACT inline void add_normals(const uniform_vectors<Bytes>& words, float scale, float* x,
                                                             Next& next) {
  DPOPT_NO_CONTRACT_BLOCK
  using reals = wide<float, Bytes>;
  constexpr std::size_t count = 4; // vectors of pairs
  const auto& [radius_0, radius_1, angle_0, angle_1] = words.word;
  const wide<std::uint32_t, Bytes>* const radius[] = {&radius_0[0], &radius_0[1], &radius_1[0], &radius_1[1]};
  const wide<std::uint32_t, Bytes>* const angle[] = {&angle_0[0], &angle_0[1], &angle_1[0], &angle_1[1]};
  reals r[count], c[count], s[count];
  DPOPT_UNROLL
  for (std::size_t v = 0; v < count; ++v) unit_interval(*radius[v], *angle[v], r[v]);
  next.template draw<0>();
  DPOPT_UNROLL
  for (std::size_t v = 0; v < count; ++v) on_circle(*angle[v], c[v], s[v]);
  next.template draw<1>();
  DPOPT_UNROLL
  for (std::size_t v = 0; v < count; ++v) minus_four_log(r[v]);
  next.template draw<2>();
  DPOPT_UNROLL
  for (std::size_t v = 0; v < count; ++v) sqrt_of_half(r[v]);
  next.template draw<3>();
  DPOPT_UNROLL
  for (std::size_t v = 0; v < count; ++v) {
    float* const at = x + v / 2 * 2 * Row + v % 2 * (Bytes / sizeof(float));
    reals a, b;
    std::memcpy(&a, at, Bytes);
    std::memcpy(&b, at + Row, Bytes);
    a = a + scale * (r[v] * c[v]);
    b = b + scale * (r[v] * s[v]);
    std::memcpy(at, &a, Bytes);
    std::memcpy(at + Row, &b, Bytes);
  }
}

/// x[i] += scale * normal[i] for tiles of `Row` blocks, the first from `counter`, which ends behind the last.
template <std::size_t Row, std::size_t Bytes>
DPOPT_FORCE_INLINE DPOPT_NO_CONTRACT inline void
add_normal_vectors(philox_counter& counter, const philox_round_keys& keys, float scale, float* x, std::size_t tiles) {
  constexpr std::size_t blocks = philox_vectors<Bytes>::blocks;
  static_assert(Row % blocks == 0);
  if (tiles == 0) return;
  const auto at = [=](std::size_t block) { return x + block / Row * 4 * Row + block % Row; };
  next_blocks<Bytes> next{counter, keys, {}};
  uniform_vectors<Bytes> words;
  next.template draw<0>();
  next.template draw<1>();
  next.template draw<2>();
  next.template draw<3>();
  next.finish(words);
  std::size_t block = 0;
  for (; block + blocks < tiles * Row; block += blocks) {
    add_normals<Row>(words, scale, at(block), next);
    next.finish(words);
  }
  no_blocks none;
  add_normals<Row>(words, scale, at(block), none);
}

} // namespace dpopt::detail
