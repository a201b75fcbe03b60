// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The hardened level of secure mode: exact discrete Gaussian noise from a cipher, on the accumulator integer_grid.
///
/// Why it holds against attacks on floating-point arithmetic (Mironov 2012; Jin et al. 2022; Haney et al. 2022): the
/// clipped sum is a vector of integers and so is the noise, whose distribution is the one of the proof and not nearly
/// so. Their sum is what is released; the unit, a power of two, and the division by the batch size come afterwards and
/// see nothing else. No floating-point number lies between the first random bit and the release.
///
/// - Sensitivity: integer_grid rounds each contribution towards zero, so that its L2 norm in units is at most
///   bound / unit, also after rounding. std_in_units = multiplier x sensitivity / unit is rounded up
///   (discrete_gaussian::at_least).
/// - Beyond 64 bits the sum wraps around. Adding modulo 2^64 is a function of the exact noisy sum: it costs no privacy.
/// - 256-bit key from the operating system, drawn by the root and shared by its bytes; a fresh one each run.
///   XChaCha20 at (purpose, lane, step, parameter); 64 elements have 2^20 blocks of the stream of their own, drawn in
///   order from the first, so a number depends on its address and not on how a range is split. They use about 40 of
///   these blocks.
/// - Erased: key and stream buffer. fork(): a child that would repeat its parent's noise is refused.
///
/// tools/noise_quality --of hardened finds no fault in 1e8 numbers, nor in 1e8 each of 0.8, 4.3 and 30 units, counted
/// against their exact probabilities (docs/noise.md).
///
/// What it is not: a mechanism for shares (sums of discrete Gaussians are none), nor constant in time: see
/// noise/discrete_gaussian.hpp.
#pragma once

#include "dpopt/core/entropy.hpp"
#include "dpopt/core/error.hpp"
#include "dpopt/core/types.hpp"
#include "dpopt/noise/discrete_gaussian.hpp"
#include "dpopt/noise/multiplier.hpp"
#include "dpopt/noise/noise_mechanism.hpp"
#include "dpopt/sodium/chacha_stream.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <string>

namespace dpopt {

namespace detail {

/// The words of one group of elements, in the byte order that ranks share, through a buffer that is wiped.
class hardened_words {
public:
  static constexpr std::uint64_t group = 64;                      ///< elements that share a run of blocks
  static constexpr std::uint64_t blocks = std::uint64_t{1} << 20; ///< in a run: 64 MiB
  static constexpr std::uint64_t groups = std::numeric_limits<std::uint64_t>::max() / blocks;

  using result_type = std::uint64_t;
  static constexpr result_type min() { return 0; }
  static constexpr result_type max() { return std::numeric_limits<result_type>::max(); }

  /// @param where its element is ignored; @param key must outlive this object.
  hardened_words(const secret_key& key, const address& where) : key_(key), nonce_(chacha_stream::nonce_of(where)) {
    nonce_.back() = 1; // apart from secure_gaussian's streams, should a key ever be given to both
  }
  hardened_words(const hardened_words&) = delete;
  hardened_words& operator=(const hardened_words&) = delete;
  ~hardened_words() { sodium_memzero(buffer_.data(), buffer_.size()); }

  /// Goes to the first word of group number g < groups.
  void start(std::uint64_t g) {
    next_block_ = g * blocks;
    end_block_ = next_block_ + blocks;
    at_ = buffer_.size();
  }

  /// @throw randomness_error at the end of the group's blocks: no working cipher gets there.
  std::uint64_t operator()() {
    if (at_ == buffer_.size()) refill();
    std::uint64_t word = 0;
    std::memcpy(&word, buffer_.data() + at_, sizeof word);
    at_ += sizeof word;
    return word;
  }

private:
  static constexpr std::size_t buffered_blocks =
      16; // three fills a group; the cipher is at full speed from 8 blocks on
  static_assert(blocks % buffered_blocks == 0);

  void refill() {
    if (next_block_ == end_block_) throw randomness_error("hardened_gaussian: 64 numbers took 64 MiB of random bits");
    chacha_stream::fill(buffer_, key_, nonce_, next_block_);
    next_block_ += buffered_blocks;
    at_ = 0;
  }

  const secret_key& key_;
  chacha_stream::nonce nonce_;
  std::uint64_t next_block_ = 0;
  std::uint64_t end_block_ = 0;
  std::size_t at_ = buffered_blocks * chacha_stream::block_bytes;
  std::array<unsigned char, buffered_blocks* chacha_stream::block_bytes> buffer_ = {};
};

static_assert(WordSource<hardened_words>);

} // namespace detail

/// NoiseMechanism for std::int64_t alone; addressable. Copies continue the same stream.
struct hardened_gaussian {
  using role = roles::noise;
  static constexpr bool addressable = true;
  static constexpr noise_kind kind = noise_kind::discrete_gaussian; ///< accounted at integer orders

  double noise_multiplier = multiplier_not_given; ///< std of the noise over the sensitivity

  /// What add() uses. Not an option: filled by draw_secret() on the root and by the copy of secret() elsewhere.
  secret_key key_ = {};

  [[nodiscard]] double multiplier() const noexcept { return noise_multiplier; }

  /// For describe() of the optimizer and comparison between ranks; holds no secret.
  [[nodiscard]] std::string describe() const { return "hardened_gaussian"; }

  /// @throw invalid_argument If the multiplier is negative or not finite.
  /// @throw randomness_error If libsodium cannot be used here.
  void validate() const {
    require_multiplier(noise_multiplier);
    require_sodium();
  }

  /// What add() would say, so that an optimizer hears it before its first step.
  /// @throw invalid_argument If std_in_units is not above 0 and at most discrete_gaussian::largest_std.
  static void require_std(double std_in_units) { static_cast<void>(discrete_gaussian::at_least(std_in_units)); }

  /// Root only, not collective. @param source of the key's bytes.
  /// @throw randomness_error naming the cause if it fails, or if libsodium cannot be used here.
  template <EntropySource Source = system_entropy>
  void draw_secret(Source source = {}) {
    require_sodium(source);
    key_.draw(source);
  }

  /// The 32 bytes that ranks must share. Never print them.
  [[nodiscard]] std::span<std::byte> secret() noexcept { return key_.bytes(); }

  /// No seed, no repetition.
  [[nodiscard]] static constexpr bool reproducible() noexcept { return false; }

  /// x[i] += discrete Gaussian, modulo 2^64, for i < count, where x[i] is element where.element + i. Local,
  /// thread-safe.
  /// @param std_in_units above 0, at most discrete_gaussian::largest_std; rounded up.
  /// @throw state_error If there is no key yet, or it is a forked parent's. @throw invalid_argument If std_in_units is
  /// out of range. @throw randomness_error If an element has no blocks. In all three x is unchanged.
  void add(const address& where, double std_in_units, std::int64_t* x, isize count) const {
    if (count <= 0) return;
    key_.require_usable();
    const discrete_gaussian distribution = discrete_gaussian::at_least(std_in_units);
    constexpr std::uint64_t size = detail::hardened_words::group;
    constexpr std::uint64_t elements = detail::hardened_words::groups * size;
    if (where.element >= elements || static_cast<std::uint64_t>(count) > elements - where.element)
      throw randomness_error("the random stream is exhausted: continuing would repeat noise");
    detail::hardened_words words(key_, where);
    const std::uint64_t end = where.element + static_cast<std::uint64_t>(count);
    for (std::uint64_t first = where.element / size * size; first < end; first += size) {
      words.start(first / size);
      exact_coin coin(words);
      for (std::uint64_t e = first; e < first + size && e < end; ++e) {
        const std::int64_t noise = distribution.draw(coin);
        if (e < where.element) continue; // its words come first
        std::int64_t& out = x[e - where.element];
        out = static_cast<std::int64_t>(static_cast<std::uint64_t>(out) + static_cast<std::uint64_t>(noise));
      }
    }
  }
};

static_assert(NoiseMechanism<hardened_gaussian, std::int64_t> && DiscreteNoise<hardened_gaussian>);
static_assert(!NoiseMechanism<hardened_gaussian, float> && !NoiseMechanism<hardened_gaussian, double>);
static_assert(AddressableNoise<hardened_gaussian> && SharesSecret<hardened_gaussian>);

} // namespace dpopt
