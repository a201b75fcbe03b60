// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The default mechanism: Gaussian noise from Philox 4x32-10, a pure function of (secret, address).
///
/// When to use: fast, reproducible with a seed, the same bits on every rank, thread count, SIMD width and compiler.
/// When not: Philox is no cipher and its key has 64 bits; where somebody might try to recover the key from releases,
/// use secure_gaussian. The seed is a secret as a key is: who knows it can subtract the noise. No message holds it.
///
/// float and double are separate streams of the same secret, each with its own Philox key. tools/noise_quality finds no
/// fault in 1e10 numbers of either: moments, distribution, tails to 6 sigma, correlations (docs/noise.md has the
/// table).
#pragma once

#include "dpopt/core/platform.hpp"
#include "dpopt/core/types.hpp"
#include "dpopt/noise/multiplier.hpp"
#include "dpopt/noise/noise_mechanism.hpp"
#include "dpopt/noise/normal_tiles.hpp"
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

namespace dpopt {

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

  /// Root only, not collective. Takes the user's seed, or 64 fresh bits from the operating system.
  /// @throw randomness_error If the operating system has no entropy to give.
  void draw_secret() { secret_.draw(seed, incarnation); }

  /// Root only, for a start that may repeat step numbers: a stream that no earlier start has drawn from.
  void renew_secret() { secret_.renew(seed); }

  /// The 24 bytes that ranks must share. Never print them.
  [[nodiscard]] std::span<std::byte> secret() noexcept { return secret_.bytes(); }

  /// A user-given seed makes the noise predictable: such a run is not a private release.
  [[nodiscard]] bool reproducible() const noexcept { return seed.has_value(); }

  /// x[i] += N(0, std_in_units^2) for i < count, where x[i] is element where.element + i of the stream.
  /// The number of an element does not depend on how a range is split into calls. Local, thread-safe.
  /// @throw state_error If there is no secret yet. @throw randomness_error If an address is out of range; x unchanged.
  template <std::floating_point V>
    requires(std::same_as<V, float> || std::same_as<V, double>)
  void add(const address& where, double std_in_units, V* x, isize count) const {
    if (count <= 0) return;
    constexpr std::size_t size = detail::normal_tile_size<V>;
    const philox_key key = secret_.key(std::same_as<V, double> ? 0 : 1);
    philox_counter counter = stream_counter(where, where.element / size * detail::tile_blocks);
    const std::uint64_t last = where.element + static_cast<std::uint64_t>(count - 1);
    static_cast<void>(stream_counter(where, last / size * detail::tile_blocks)); // refuse before anything is written

    const V scale = static_cast<V>(std_in_units);
    const vector_level level = best_vector_level();
    const auto add_part = [&](std::size_t skip, std::size_t part) { // of one tile, by way of a whole one
      std::array<V, size> tile{};
      std::copy_n(x, part, tile.begin() + static_cast<std::ptrdiff_t>(skip));
      detail::add_normal_tiles(level, counter, key, scale, tile.data(), 1);
      std::copy_n(tile.begin() + static_cast<std::ptrdiff_t>(skip), part, x);
      x += part;
    };
    auto left = static_cast<std::size_t>(count);
    const std::size_t skip = where.element % size; // elements of the first tile that stand before the range
    if (skip > 0) {
      const std::size_t part = std::min(size - skip, left);
      add_part(skip, part);
      left -= part;
    }
    const std::size_t tiles = left / size;
    detail::add_normal_tiles(level, counter, key, scale, x, tiles);
    x += tiles * size;
    if (left % size > 0) add_part(0, left % size);
  }
};

static_assert(NoiseMechanism<counter_gaussian, float> && NoiseMechanism<counter_gaussian, double>);
static_assert(AddressableNoise<counter_gaussian> && SharesSecret<counter_gaussian>);

} // namespace dpopt
