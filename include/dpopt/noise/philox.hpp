// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Philox 4x32-10, the counter-based generator of Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as
/// 1, 2, 3" (SC 2011, section 3.3): a keyed bijection of 128-bit counters, so that distinct counters never share a
/// block and any block can be drawn alone. Fast and statistically strong, but not a cipher: secure_gaussian is.
#pragma once

#include "dpopt/core/platform.hpp"

#include <array>
#include <cstddef>
#include <cstdint>

namespace dpopt {

using philox_counter = std::array<std::uint32_t, 4>;
using philox_key = std::array<std::uint32_t, 2>;

namespace detail {
inline constexpr std::uint32_t philox_multiplier_0 = 0xD2511F53;
inline constexpr std::uint32_t philox_multiplier_1 = 0xCD9E8D57;
inline constexpr std::uint32_t philox_weyl_0 = 0x9E3779B9; // golden ratio
inline constexpr std::uint32_t philox_weyl_1 = 0xBB67AE85; // sqrt(3) - 1
inline constexpr int philox_round_count = 10;

/// One round on `Blocks` blocks held as a structure of arrays.
template <std::size_t Blocks>
DPOPT_FORCE_INLINE DPOPT_DEVICE constexpr void philox_round(std::array<std::array<std::uint32_t, Blocks>, 4>& word,
                                                            const philox_key& key) {
  for (std::size_t i = 0; i < Blocks; ++i) {
    const std::uint64_t left = std::uint64_t{philox_multiplier_0} * word[0][i];
    const std::uint64_t right = std::uint64_t{philox_multiplier_1} * word[2][i];
    word[0][i] = static_cast<std::uint32_t>(right >> 32) ^ word[1][i] ^ key[0];
    word[1][i] = static_cast<std::uint32_t>(right);
    word[2][i] = static_cast<std::uint32_t>(left >> 32) ^ word[3][i] ^ key[1];
    word[3][i] = static_cast<std::uint32_t>(left);
  }
}
} // namespace detail

/// `Blocks` blocks as a structure of arrays: word[w][i] is word w of block i, so that a row is vector registers.
template <std::size_t Blocks>
struct philox_batch {
  std::array<std::array<std::uint32_t, Blocks>, 4> word;
};

/// The blocks of `first`, `first` + 1, ... (added to counter word 0, which must not wrap), each equal to the single
/// block of its counter. Rounds are the outer loop: both g++ and clang then vectorise the inner one, also at -O2.
template <std::size_t Blocks>
DPOPT_FORCE_INLINE DPOPT_DEVICE constexpr void philox4x32_10(const philox_counter& first, philox_key key,
                                                             philox_batch<Blocks>& out) {
  for (std::size_t i = 0; i < Blocks; ++i) {
    out.word[0][i] = first[0] + static_cast<std::uint32_t>(i);
    out.word[1][i] = first[1];
    out.word[2][i] = first[2];
    out.word[3][i] = first[3];
  }
  for (int round = 0; round < detail::philox_round_count; ++round) {
    detail::philox_round(out.word, key);
    key[0] += detail::philox_weyl_0;
    key[1] += detail::philox_weyl_1;
  }
}

/// The block of `counter` under `key`: four uniform 32-bit words. Pure.
[[nodiscard]] DPOPT_DEVICE constexpr std::array<std::uint32_t, 4> philox4x32_10(const philox_counter& counter,
                                                                                const philox_key& key) {
  philox_batch<1> block{};
  philox4x32_10(counter, key, block);
  return {block.word[0][0], block.word[1][0], block.word[2][0], block.word[3][0]};
}

} // namespace dpopt
