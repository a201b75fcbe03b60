// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// XChaCha20 (libsodium) as an addressable stream of random bytes: key, 24-byte nonce from the address, 64-byte blocks
/// counted from 0. Every field of the address has room for its whole type, so distinct addresses never share a byte.
#pragma once

#include "dpopt/core/entropy.hpp"
#include "dpopt/core/error.hpp"
#include "dpopt/core/platform.hpp"
#include "dpopt/noise/noise_mechanism.hpp"

#include <sodium.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

namespace dpopt {

/// A 256-bit key that is wiped from memory when it goes away; so is each copy. All zeros means "none yet".
///
/// It remembers the process that filled it: a child made by fork() holds the same key and would draw the same noise for
/// other data, from which the difference of the data follows. require_usable() refuses to go on there.
class secret_key {
public:
  secret_key() = default;
  secret_key(const secret_key&) = default;
  secret_key& operator=(const secret_key&) = default;
  ~secret_key() {
    sodium_memzero(bytes_.data(), bytes_.size());
    sodium_memzero(inherited_.data(), inherited_.size());
    sodium_memzero(&owner_, sizeof owner_);
  }

  /// To be filled; whoever asks is the owner. A fork that asks and leaves the key as it was is none.
  [[nodiscard]] std::span<std::byte> bytes() noexcept {
    if (owner_ != process_id()) inherited_ = bytes_;
    owner_ = process_id();
    return std::as_writable_bytes(std::span(bytes_));
  }
  [[nodiscard]] std::span<const std::byte> bytes() const noexcept { return std::as_bytes(std::span(bytes_)); }
  [[nodiscard]] const unsigned char* data() const noexcept { return bytes_.data(); }
  [[nodiscard]] bool empty() const noexcept { return sodium_is_zero(bytes_.data(), bytes_.size()) == 1; }

  /// Fills the key from the operating system's generator, or from another source. Why not randombytes_buf: where the
  /// operating system has nothing to give, it ends the process.
  /// @throw randomness_error naming the cause when the source fails; then there is no key.
  template <EntropySource Source = system_entropy>
  void draw(Source source = {}) {
    draw_entropy(bytes(), source, "key");
  }

  /// @throw state_error without a key, or in a process that was forked since the key was filled.
  void require_usable() const {
    if (empty())
      throw state_error(
          "noise was asked for before a key was shared: call draw_secret() on the root and copy secret() to "
          "the other ranks");
    if (forked())
      throw state_error(
          "noise was asked for in a process that was forked after the key was shared: it would repeat the "
          "parent's noise, so construct the optimizer after fork()");
  }

  /// Whether another process, of which this one is a fork, filled the key.
  [[nodiscard]] bool forked() const noexcept {
    return owner_ != process_id() || (!empty() && sodium_memcmp(inherited_.data(), bytes_.data(), bytes_.size()) == 0);
  }

private:
  using key_bytes = std::array<unsigned char, crypto_stream_xchacha20_KEYBYTES>;
  key_bytes bytes_ = {};
  key_bytes inherited_ = {}; // by the fork that owner_ is
  long owner_ = 0;
};

/// Prepares libsodium; needed once a process, harmless again, thread-safe.
/// @throw randomness_error If it cannot be used, or the source of entropy fails: libsodium, which looks for one of its
///   own when it starts, would end the process.
template <EntropySource Source = system_entropy>
void require_sodium(Source source = {}) {
  std::byte probe{};
  draw_entropy(std::span(&probe, 1), source, "key");
  if (sodium_init() < 0) {
    throw randomness_error("libsodium could not be initialised: no cryptographic randomness on this machine");
  }
}

namespace chacha_stream {

inline constexpr std::size_t block_bytes = 64;
using nonce = std::array<unsigned char, crypto_stream_xchacha20_NONCEBYTES>;

/// lane (4 bytes), step (8), parameter (4), purpose (1), zeros (7); little endian. where.element is left to the caller.
[[nodiscard]] inline nonce nonce_of(const address& where) {
  nonce out = {};
  std::size_t at = 0;
  const auto put = [&](std::uint64_t value, std::size_t bytes) {
    for (std::size_t i = 0; i < bytes; ++i) {
      out[at++] = static_cast<unsigned char>(value >> (8 * i));
    }
  };
  put(where.lane, 4);
  put(where.step, 8);
  put(where.parameter, 4);
  put(static_cast<std::uint64_t>(where.what), 1);
  return out;
}

/// out = the stream's bytes from block `first_block` on.
inline void fill(std::span<unsigned char> out, const secret_key& key, const nonce& at, std::uint64_t first_block) {
  std::ranges::fill(out, static_cast<unsigned char>(0)); // the key stream is xor-ed onto it
  crypto_stream_xchacha20_xor_ic(out.data(), out.data(), out.size(), at.data(), first_block, key.data());
}

} // namespace chacha_stream

} // namespace dpopt
