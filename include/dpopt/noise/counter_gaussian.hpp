// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The default mechanism: Gaussian noise from Philox 4x32-10, a pure function of (secret, address).
///
/// When to use: fast, reproducible with a seed, the same bits on every rank, thread count, SIMD width and compiler.
/// When not: Philox is no cipher and its key has 64 bits; where somebody might try to recover the key from releases,
/// use secure_gaussian. The seed is a secret as a key is: who knows it can subtract the noise. No message holds it.
///
/// float and double are separate streams of the same secret, each with its own Philox key.
#pragma once

#include "dpopt/core/platform.hpp"
#include "dpopt/core/types.hpp"
#include "dpopt/noise/box_muller.hpp"
#include "dpopt/noise/multiplier.hpp"
#include "dpopt/noise/noise_mechanism.hpp"
#include "dpopt/noise/philox.hpp"
#include "dpopt/noise/stream_address.hpp"
#include "dpopt/noise/stream_secret.hpp"

#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <tuple>

namespace dpopt {

namespace detail {

/// Elements are drawn in tiles of 32 Philox blocks: element e is number e % size of tile e / size, which is made of
/// the blocks 32 (e / size) + 0..31. The layout is part of the stream's definition (tests/golden/noise). Why 32: with
/// 16 turns a loop, g++ -O3 unrolls Philox before it can vectorise it, at half the speed.
inline constexpr std::size_t tile_blocks = 32;

/// 128 floats (4 a block) or 64 doubles (2 a block).
template <std::floating_point V>
using normal_tile = std::array<V, tile_blocks * 4 * sizeof(std::uint32_t) / sizeof(V)>;

inline void fill_tile(const philox_batch<tile_blocks>& bits, normal_tile<float>& out) {
  box_muller(bits.word[0], bits.word[2], out.data());
  box_muller(bits.word[1], bits.word[3], out.data() + 2 * tile_blocks);
}

inline void fill_tile(const philox_batch<tile_blocks>& bits, normal_tile<double>& out) {
  box_muller(bits.word[0], bits.word[1], bits.word[2], bits.word[3], out.data());
}

} // namespace detail

/// NoiseMechanism; addressable, so fit for every placement. A plain value: copies continue the same stream.
struct counter_gaussian {
  using role = roles::noise;
  static constexpr bool addressable = true;

  double noise_multiplier = multiplier_not_given; ///< std of the noise over the sensitivity
  std::optional<std::uint64_t> seed = {};         ///< absent: drawn from the operating system by draw_secret()
  std::uint64_t incarnation = 0;                  ///< apart for each start that may repeat step numbers

  /// What add() uses. Not an option: filled by draw_secret() on the root and by the copy of secret() everywhere else.
  stream_secret secret_ = {};

  [[nodiscard]] double multiplier() const noexcept { return noise_multiplier; }

  /// For describe() of the optimizer and comparison between ranks; holds no secret.
  [[nodiscard]] std::string describe() const { return "counter_gaussian"; }

  /// @throw invalid_argument If the multiplier is negative or not finite.
  void validate() const { require_multiplier(noise_multiplier); }

  /// Root only, not collective. Takes the user's seed, or 64 fresh bits from std::random_device.
  /// @throw randomness_error If the operating system has no entropy to give.
  void draw_secret() { secret_.draw(seed, incarnation); }

  /// The 24 bytes that ranks must share. Never print them.
  [[nodiscard]] std::span<std::byte> secret() noexcept { return secret_.bytes(); }

  /// A user-given seed makes the noise predictable: such a run is not a private release.
  [[nodiscard]] bool reproducible() const noexcept { return seed.has_value(); }

  /// x[i] += N(0, std_in_units^2) for i < count, where x[i] is element where.element + i of the stream.
  /// The number of an element does not depend on how a range is split into calls. Local, thread-safe.
  /// @throw state_error If there is no secret yet. @throw randomness_error If an address is out of range; x unchanged.
  template <std::floating_point V>
    requires(std::same_as<V, float> || std::same_as<V, double>)
  DPOPT_NO_CONTRACT void add(const address& where, double std_in_units, V* x, isize count) const {
    DPOPT_NO_CONTRACT_BLOCK
    if (count <= 0) return;
    constexpr std::size_t size = std::tuple_size_v<detail::normal_tile<V>>;
    const philox_key key = secret_.key(std::same_as<V, double> ? 0 : 1);
    philox_counter counter = stream_counter(where, where.element / size * detail::tile_blocks);
    const std::uint64_t last = where.element + static_cast<std::uint64_t>(count - 1);
    static_cast<void>(stream_counter(where, last / size * detail::tile_blocks)); // refuse before anything is written

    const V scale = static_cast<V>(std_in_units);
    philox_batch<detail::tile_blocks> bits;
    detail::normal_tile<V> normal;
    auto left = static_cast<std::size_t>(count);
    std::size_t skip = where.element % size; // elements of the first tile that stand before the range
    while (left > 0) {
      philox4x32_10(counter, key, bits);
      detail::fill_tile(bits, normal);
      if (left >= size && skip == 0) { // a fixed number of turns, which the compiler vectorises
        for (std::size_t i = 0; i < size; ++i) x[i] += scale * normal[i];
      } else {
        for (std::size_t i = 0; i < std::min(size - skip, left); ++i) x[i] += scale * normal[skip + i];
      }
      const std::size_t taken = std::min(size - skip, left);
      x += taken;
      left -= taken;
      skip = 0;
      counter[0] += detail::tile_blocks;
      counter[1] += counter[0] == 0 ? 1u : 0u; // block / 2^32 is the low end of word 1
    }
  }
};

static_assert(NoiseMechanism<counter_gaussian, float> && NoiseMechanism<counter_gaussian, double>);
static_assert(AddressableNoise<counter_gaussian> && SharesSecret<counter_gaussian>);

} // namespace dpopt
