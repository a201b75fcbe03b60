// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Gaussian noise from a cipher: what Opacus documents as secure_mode, and addressable besides.
///
/// - 256-bit key from the operating system, drawn by the root and shared by its bytes; a fresh one each run, so that
///   nothing is ever reproducible and no seed can be given.
/// - XChaCha20 at (purpose, lane, step, parameter): element e uses block e + 1 of 64 bytes and nothing else does.
/// - Each number is the sum of 4 independent Gaussians over 2 (N. Holohan and S. Braghin, "Secure random sampling in
///   differential privacy", ESORICS 2021), which makes it costly to solve for the uniforms from the low bits of a
///   released number; block 0, the first draw of each (step, parameter), is discarded.
///
/// tools/noise_quality --of secure finds no fault in 1e9 numbers of float and 1e8 of double (docs/noise.md).
///
/// What it is not: a proof against attacks on floating-point arithmetic. The set of reachable sums still depends on the
/// un-noised value; only noise on an integer grid ends that: hardened_gaussian.
#pragma once

#include "dpopt/core/entropy.hpp"
#include "dpopt/core/error.hpp"
#include "dpopt/core/platform.hpp"
#include "dpopt/core/types.hpp"
#include "dpopt/noise/box_muller.hpp"
#include "dpopt/noise/multiplier.hpp"
#include "dpopt/noise/noise_mechanism.hpp"
#include "dpopt/sodium/chacha_stream.hpp"

#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>
#include <span>
#include <string>

namespace dpopt {

namespace detail {

inline constexpr std::size_t secure_tile = 32; ///< elements drawn at once; not part of the stream's definition
inline constexpr std::size_t secure_bytes = secure_tile * chacha_stream::block_bytes;
inline constexpr std::size_t secure_terms = 4; ///< Gaussians in a number, 16 bytes each: one block

/// 2 KiB of key stream and what is computed from it, wiped when they go away.
struct secure_buffers {
  using words = std::array<std::uint32_t, secure_tile>;
  std::array<unsigned char, secure_bytes> bytes = {};
  std::array<words, 4> word;
  std::array<double, 2 * secure_tile> normal;
  std::array<double, secure_tile> sum;

  secure_buffers() = default;
  secure_buffers(const secure_buffers&) = delete;
  secure_buffers& operator=(const secure_buffers&) = delete;
  ~secure_buffers() { sodium_memzero(this, sizeof *this); }

  /// sum[i] = (g0 + g1 + g2 + g3) / 2 from block i of `bytes`; each g is the x coordinate of a point of its own.
  DPOPT_NO_CONTRACT void combine() {
    DPOPT_NO_CONTRACT_BLOCK
    sum.fill(0);
    for (std::size_t term = 0; term < secure_terms; ++term) {
      for (std::size_t i = 0; i < secure_tile; ++i) {
        for (std::size_t w = 0; w < 4; ++w) {
          std::memcpy(&word[w][i], &bytes[i * chacha_stream::block_bytes + (term * 4 + w) * 4], 4);
        }
      }
      box_muller(word[0], word[1], word[2], word[3], normal.data());
      for (std::size_t i = 0; i < secure_tile; ++i) sum[i] += 0.5 * normal[i];
    }
  }
};

} // namespace detail

/// NoiseMechanism; addressable, so fit for every placement. Copies continue the same stream.
struct secure_gaussian {
  using role = roles::noise;
  static constexpr bool addressable = true;

  double noise_multiplier = multiplier_not_given; ///< std of the noise over the sensitivity

  /// What add() uses. Not an option: filled by draw_secret() on the root and by the copy of secret() elsewhere.
  secret_key key_ = {};

  [[nodiscard]] double multiplier() const noexcept { return noise_multiplier; }

  /// For describe() of the optimizer and comparison between ranks; holds no secret.
  [[nodiscard]] std::string describe() const { return "secure_gaussian"; }

  /// @throw invalid_argument If the multiplier is negative or not finite.
  /// @throw randomness_error If libsodium cannot be used here.
  void validate() const {
    require_multiplier(noise_multiplier);
    require_sodium();
  }

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

  /// x[i] += N(0, std_in_units^2) for i < count, drawn in double and rounded to V; x[i] is element where.element + i.
  /// The number of an element does not depend on how a range is split into calls. Local, thread-safe.
  /// @throw state_error If there is no key yet, or it is a forked parent's. @throw randomness_error If an element has
  /// no block; x is unchanged.
  template <std::floating_point V>
  DPOPT_NO_CONTRACT void add(const address& where, double std_in_units, V* x, isize count) const {
    DPOPT_NO_CONTRACT_BLOCK
    if (count <= 0) return;
    key_.require_usable();
    if (where.element > std::numeric_limits<std::uint64_t>::max() - static_cast<std::uint64_t>(count)) {
      throw randomness_error("the random stream is exhausted: continuing would repeat noise");
    }
    const chacha_stream::nonce nonce = chacha_stream::nonce_of(where);
    detail::secure_buffers buffers;
    for (isize done = 0; done < count;) {
      const isize now = std::min(count - done, static_cast<isize>(detail::secure_tile));
      const auto bytes = static_cast<std::size_t>(now) * chacha_stream::block_bytes;
      const std::uint64_t first = where.element + static_cast<std::uint64_t>(done) + 1; // block 0 is discarded
      chacha_stream::fill(std::span(buffers.bytes).first(bytes), key_, nonce, first);
      buffers.combine();
      for (isize i = 0; i < now; ++i) {
        x[done + i] += static_cast<V>(std_in_units * buffers.sum[static_cast<std::size_t>(i)]);
      }
      done += now;
    }
  }
};

/// The same by the name of what it imitates.
using opacus_secure = secure_gaussian;

static_assert(NoiseMechanism<secure_gaussian, float> && NoiseMechanism<secure_gaussian, double>);
static_assert(AddressableNoise<secure_gaussian> && SharesSecret<secure_gaussian>);

} // namespace dpopt
