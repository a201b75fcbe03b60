// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The sampler's counterpart of seed_gaussian: a seed, a secret seed, or secure_mode, chosen at run time.
#pragma once

#include "dpopt/core/entropy.hpp"
#include "dpopt/core/error.hpp"
#include "dpopt/sampling/sampling_source.hpp"
#include "dpopt/sodium/secure_bits.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace dpopt {

/// secure_mode covers the sampler too, and refuses a seed like the noise does.
struct seed_bits {
  std::optional<std::uint64_t> generator_seed = {}; ///< a reproducible run; absent: a secret seed
  bool secure_mode = false;                         ///< a cipher's stream under a key from the operating system

  /// One length for both modes, so that ranks that disagree still broadcast alike.
  secret_key secret_ = {};

  /// @throw invalid_argument for secure_mode with a seed, randomness_error naming the cause without entropy.
  template <EntropySource Source = system_entropy>
  void draw_secret(Source source = {}) {
    if (secure_mode && generator_seed)
      throw invalid_argument("secure_mode draws its own key: leave generator_seed empty");
    if (secure_mode) copy_from(secure_bits{}, source);
    else copy_from(counter_bits{.seed = generator_seed}, source);
  }
  [[nodiscard]] std::span<std::byte> secret() noexcept { return secret_.bytes(); }
  [[nodiscard]] bool reproducible() const noexcept { return !secure_mode && generator_seed.has_value(); }

  [[nodiscard]] std::uint64_t bits(std::uint64_t draw, std::uint64_t record) const {
    if (secure_mode) return secure_bits{secret_}.bits(draw, record);
    counter_bits source;
    const auto to = source.secret();
    std::ranges::copy(secret_.bytes().first(to.size()), to.begin());
    return source.bits(draw, record);
  }

private:
  template <class Bits, class Source>
  void copy_from(Bits bits, Source& source) {
    bits.draw_secret(source);
    std::ranges::copy(bits.secret(), secret_.bytes().begin());
  }
};

static_assert(sizeof(stream_secret) <= sizeof(secret_key), "one length must hold both secrets");
static_assert(SamplingSource<seed_bits>);

} // namespace dpopt
