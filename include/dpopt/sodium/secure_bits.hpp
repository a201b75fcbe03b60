// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Who is sampled, decided by a cipher's stream: the sampler's part of secure_mode.
#pragma once

#include "dpopt/core/entropy.hpp"
#include "dpopt/core/error.hpp"
#include "dpopt/sampling/sampling_source.hpp"
#include "dpopt/sodium/chacha_stream.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>

namespace dpopt {

/// SamplingSource from XChaCha20 under a 256-bit key that the root draws from the operating system.
struct secure_bits {
  secret_key key_ = {};

  /// @throw randomness_error naming the cause when the source of entropy fails, or libsodium cannot be used.
  template <EntropySource Source = system_entropy>
  void draw_secret(Source source = {}) {
    require_sodium(source);
    key_.draw(source);
  }
  [[nodiscard]] std::span<std::byte> secret() noexcept { return key_.bytes(); }
  [[nodiscard]] bool reproducible() const noexcept { return false; }

  /// Eight records share a block of the stream. @throw state_error before the key is shared.
  [[nodiscard]] std::uint64_t bits(std::uint64_t draw, std::uint64_t record) const {
    if (key_.empty()) throw state_error("secure_bits: no key was drawn or shared yet");
    const auto nonce =
        chacha_stream::nonce_of({.what = purpose::sampling, .lane = 0, .step = draw, .parameter = 0, .element = 0});
    std::array<unsigned char, chacha_stream::block_bytes> block;
    chacha_stream::fill(block, key_, nonce, record / 8);
    std::uint64_t out = 0;
    std::memcpy(&out, block.data() + record % 8 * sizeof out, sizeof out);
    sodium_memzero(block.data(), block.size());
    return out;
  }
};

static_assert(SamplingSource<secure_bits>);

} // namespace dpopt
