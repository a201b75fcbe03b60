// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The noise of the seed's two optimizer classes, whose secure_mode and generator are run-time options: secure_gaussian
/// or counter_gaussian. Where the choice is known when compiling, name one of those two instead.
#pragma once

#include "dpopt/core/entropy.hpp"
#include "dpopt/core/error.hpp"
#include "dpopt/core/types.hpp"
#include "dpopt/noise/counter_gaussian.hpp"
#include "dpopt/noise/multiplier.hpp"
#include "dpopt/noise/noise_mechanism.hpp"
#include "dpopt/noise/stream_secret.hpp"
#include "dpopt/sodium/chacha_stream.hpp"
#include "dpopt/sodium/secure_gaussian.hpp"

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

namespace dpopt {

/// NoiseMechanism; addressable, so fit for every placement. Copies continue the same stream.
struct seed_gaussian {
  using role = roles::noise;
  static constexpr bool addressable = true;

  double noise_multiplier = multiplier_not_given;   ///< std of the noise over the sensitivity
  std::optional<std::uint64_t> generator_seed = {}; ///< a reproducible run; absent: a secret seed
  bool secure_mode = false;                         ///< a cipher's stream under a key from the operating system
  std::uint64_t incarnation = 0;                    ///< as in counter_gaussian; without meaning in secure_mode

  /// The secret of either mechanism, in one length: ranks that disagree about the mode still broadcast alike, and the
  /// disagreement is found by the comparison of configurations. Not an option.
  secret_key secret_ = {};

  [[nodiscard]] double multiplier() const noexcept { return noise_multiplier; }

  /// For describe() of the optimizer and comparison between ranks; holds no secret.
  [[nodiscard]] std::string describe() const { return secure_mode ? "seed_gaussian(secure_mode)" : "seed_gaussian"; }

  /// @throw invalid_argument If the multiplier is negative or not finite, or secure_mode comes with a generator.
  /// @throw randomness_error If secure_mode is asked for and libsodium cannot be used here.
  void validate() const {
    require_multiplier(noise_multiplier);
    if (!secure_mode) return;
    if (generator_seed) throw invalid_argument("secure_mode draws its own key: leave generator empty");
    require_sodium();
  }

  /// Root only, not collective. @param source of a seed or key. @throw randomness_error naming the cause if it fails.
  template <EntropySource Source = system_entropy>
  void draw_secret(Source source = {}) {
    if (secure_mode) return draw_key(source);
    stream_secret drawn;
    drawn.draw(generator_seed, incarnation, source);
    std::ranges::copy(drawn.bytes(), secret_.bytes().begin());
  }

  /// Root only, for a start that may repeat step numbers: a stream that no earlier start has drawn from, also with a
  /// user's seed. @throw as draw_secret().
  template <EntropySource Source = system_entropy>
  void renew_secret(Source source = {}) {
    if (secure_mode) return draw_key(source);
    stream_secret drawn;
    drawn.renew(generator_seed, source);
    std::ranges::copy(drawn.bytes(), secret_.bytes().begin());
  }

  /// The 32 bytes that ranks must share, whatever the mode. Never print them.
  [[nodiscard]] std::span<std::byte> secret() noexcept { return secret_.bytes(); }

  /// A user-given seed makes the noise predictable: such a run is not a private release.
  [[nodiscard]] bool reproducible() const noexcept { return !secure_mode && generator_seed.has_value(); }

  /// x[i] += N(0, std_in_units^2), as the chosen mechanism does with this secret, bit for bit. Local, thread-safe.
  /// @throw state_error If there is no secret yet. @throw randomness_error If an address is out of range; x unchanged.
  template <std::floating_point V>
    requires NoiseMechanism<counter_gaussian, V>
  void add(const address& where, double std_in_units, V* x, isize count) const {
    if (secure_mode) {
      secure_gaussian{.noise_multiplier = noise_multiplier, .key_ = secret_}.add(where, std_in_units, x, count);
    } else {
      counter_gaussian mechanism;
      std::ranges::copy(secret_.bytes().first(mechanism.secret().size()), mechanism.secret().begin());
      mechanism.add(where, std_in_units, x, count);
    }
  }

private:
  template <class Source>
  void draw_key(Source& source) {
    secure_gaussian mechanism;
    mechanism.draw_secret(source);
    std::ranges::copy(mechanism.secret(), secret_.bytes().begin());
  }
};

static_assert(sizeof(stream_secret) <= sizeof(secret_key), "one length must hold both secrets");
static_assert(NoiseMechanism<seed_gaussian, float> && NoiseMechanism<seed_gaussian, double>);
static_assert(AddressableNoise<seed_gaussian> && SharesSecret<seed_gaussian>);

} // namespace dpopt
