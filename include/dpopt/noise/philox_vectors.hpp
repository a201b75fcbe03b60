// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Philox blocks for a vector width: the words of philox4x32_10(), two to four times as fast as from its loops.
///
/// A word of a block sits in the low half of a 64-bit lane through all rounds. A product needs only the low halves, so
/// what piles up in the high ones is left there, and a round is two products, two shifts and two sums without carry,
/// with no shuffle. Blocks of even and odd number are kept apart; the last round interleaves them, which puts all words
/// in order.
#pragma once

#include "dpopt/core/platform.hpp"
#include "dpopt/core/vector_operations.hpp"
#include "dpopt/noise/philox.hpp"

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace dpopt::detail {

/// `counter` behind `blocks` blocks; block / 2^32 is the low end of word 1.
DPOPT_FORCE_INLINE inline void advance(philox_counter& counter, std::size_t blocks) {
  counter[0] += static_cast<std::uint32_t>(blocks);
  counter[1] += counter[0] == 0 ? 1u : 0u;
}

/// The keys of all rounds, as words in 64-bit lanes: a round broadcasts them from memory, which takes no vector unit.
struct philox_round_keys {
  std::uint64_t key[philox_round_count][2];
  explicit philox_round_keys(const philox_key& first) {
    for (std::uint32_t round = 0; round < philox_round_count; ++round) {
      key[round][0] = first[0] + round * philox_weyl_0;
      key[round][1] = first[1] + round * philox_weyl_1;
    }
  }
};

/// Word k of the blocks of four vectors is word[k][0], then word[k][1].
template <std::size_t Bytes>
struct uniform_vectors {
  wide<std::uint32_t, Bytes> word[4][2];
};

/// The rounds of `blocks` blocks: start(), rounds() from 0 to 9, finish(). Other work between them fills the time in
/// which they wait for each other.
template <std::size_t Bytes>
struct philox_vectors {
  using words = wide_words<Bytes>;
  using halves = wide<std::uint32_t, Bytes>;
  static constexpr std::size_t lanes = Bytes / sizeof(std::uint64_t);
  static constexpr std::size_t together = 4; ///< vectors whose rounds overlap; all their words fit registers
  static constexpr std::size_t blocks = together * lanes;

  words w[4][together];

  /// With the counters `first`, `first` + 1, ... (added to word 0, which must not wrap).
  DPOPT_FORCE_INLINE void start(const philox_counter& first) {
    words zero, even;
    for (std::size_t i = 0; i < lanes; ++i) {
      zero[i] = 0;
      even[i] = 2 * i;
    }
    DPOPT_UNROLL
    for (std::size_t v = 0; v < together; ++v) {
      w[0][v] = even + (std::uint64_t{first[0]} + v / 2 * 2 * lanes + v % 2);
      for (std::size_t k = 1; k < 4; ++k) w[k][v] = zero + first[k];
    }
  }

  /// Rounds From to To - 1, at most the first nine.
  template <int From, int To>
  DPOPT_FORCE_INLINE void rounds(const philox_round_keys& keys) {
    DPOPT_UNROLL
    for (int round = From; round < To; ++round) {
      DPOPT_UNROLL
      for (std::size_t v = 0; v < together; ++v) {
        words left, right;
        multiply(v, left, right);
        w[0][v] = (right >> 32) ^ w[1][v] ^ keys.key[round][0];
        w[1][v] = right;
        w[2][v] = (left >> 32) ^ w[3][v] ^ keys.key[round][1];
        w[3][v] = left;
      }
    }
  }

  /// The last round, and the words put in order.
  DPOPT_FORCE_INLINE void finish(const philox_round_keys& keys, uniform_vectors<Bytes>& out) {
    constexpr int last = philox_round_count - 1;
    DPOPT_UNROLL
    for (std::size_t v = 0; v < together; v += 2) {
      words left[2], right[2];
      multiply(v, left[0], right[0]);
      multiply(v + 1, left[1], right[1]);
      halves high, low;
      interleave_words<true>(right, high);
      interleave_words<false>(&w[1][v], low);
      out.word[0][v / 2] = high ^ low ^ static_cast<std::uint32_t>(keys.key[last][0]);
      interleave_words<false>(right, out.word[1][v / 2]);
      interleave_words<true>(left, high);
      interleave_words<false>(&w[3][v], low);
      out.word[2][v / 2] = high ^ low ^ static_cast<std::uint32_t>(keys.key[last][1]);
      interleave_words<false>(left, out.word[3][v / 2]);
    }
  }

private:
  DPOPT_FORCE_INLINE void multiply(std::size_t v, words& left, words& right) const {
    words left_multiplier, right_multiplier;
    for (std::size_t i = 0; i < lanes; ++i) {
      left_multiplier[i] = philox_multiplier_0;
      right_multiplier[i] = philox_multiplier_1;
    }
    low_products<Bytes>(w[0][v], left_multiplier, left);
    low_products<Bytes>(w[2][v], right_multiplier, right);
  }

  template <bool High>
  DPOPT_FORCE_INLINE static void interleave_words(const words* pair, halves& out) {
    halves even, odd;
    copy_bits(pair[0], even);
    copy_bits(pair[1], odd);
    interleave<High, Bytes>(even, odd, out);
  }
};

/// The blocks of `first`, `first` + 1, ...; as philox4x32_10() for many.
template <std::size_t Bytes, std::size_t Blocks>
DPOPT_FORCE_INLINE inline void philox_blocks([[maybe_unused]] vector_bytes<Bytes> width, philox_counter first,
                                             const philox_round_keys& keys, philox_batch<Blocks>& out) {
  if constexpr (!has_wide_words) {
    philox4x32_10(first, {static_cast<std::uint32_t>(keys.key[0][0]), static_cast<std::uint32_t>(keys.key[0][1])}, out);
  } else {
    using vectors = philox_vectors<Bytes>;
    static_assert(Blocks % vectors::blocks == 0);
    for (std::size_t block = 0; block < Blocks; block += vectors::blocks) {
      vectors philox;
      philox.start(first);
      philox.template rounds<0, philox_round_count - 1>(keys);
      uniform_vectors<Bytes> words;
      philox.finish(keys, words);
      for (std::size_t k = 0; k < 4; ++k) std::memcpy(&out.word[k][block], words.word[k], 2 * Bytes);
      advance(first, vectors::blocks);
    }
  }
}

} // namespace dpopt::detail
