// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The SamplingSource role: 64 random bits for each (draw, record), a pure function of a secret. Satisfied by
/// counter_bits (default) and secure_bits (dpopt::sodium). Who knows the secret knows who was sampled, and then there
/// is no amplification: it is kept like the noise's.
#pragma once

#include "dpopt/core/entropy.hpp"
#include "dpopt/core/types.hpp"
#include "dpopt/noise/noise_mechanism.hpp"
#include "dpopt/noise/stream_address.hpp"
#include "dpopt/noise/stream_secret.hpp"

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace dpopt {

template <class S>
concept SamplingSource = SharesSecret<S> && requires(const S k, std::uint64_t draw, std::uint64_t record) {
  { k.bits(draw, record) } -> std::same_as<std::uint64_t>; // independent and uniform over all pairs
};

/// Philox 4x32-10 under the purpose `sampling`: may share the noise's seed, never its numbers.
struct counter_bits {
  std::optional<std::uint64_t> seed = {}; ///< absent: drawn from the operating system on the root
  std::uint64_t incarnation = 0;
  stream_secret secret_ = {};

  /// @throw randomness_error naming the cause when the source of entropy fails.
  template <EntropySource Source = system_entropy>
  void draw_secret(Source source = {}) {
    secret_.draw(seed, incarnation, source);
  }
  [[nodiscard]] std::span<std::byte> secret() noexcept { return secret_.bytes(); }
  [[nodiscard]] bool reproducible() const noexcept { return seed.has_value(); }

  /// @throw state_error before the secret is shared, randomness_error when the counter is used up.
  [[nodiscard]] std::uint64_t bits(std::uint64_t draw, std::uint64_t record) const {
    const address where{.what = purpose::sampling, .lane = 0, .step = draw, .parameter = 0, .element = record};
    const auto words = philox4x32_10(stream_counter(where, record / 2), secret_.key(0));
    const std::size_t half = record % 2 == 0 ? 0 : 2;
    return (std::uint64_t{words[half]} << 32) | words[half + 1];
  }
};

static_assert(SamplingSource<counter_bits>);

} // namespace dpopt
