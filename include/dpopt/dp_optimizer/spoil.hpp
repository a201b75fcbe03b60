// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Overwrites numbers so that nothing can be learned from their sum over ranks: what a rank sends when it failed to add
/// its noise, without which the others would see their exact sum. It cannot fail itself: the others are waiting.
#pragma once

#include "dpopt/core/entropy.hpp"
#include "dpopt/noise/philox.hpp"

#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>

namespace dpopt {

/// NaN, whatever is added to it.
template <std::floating_point V>
void spoil(std::span<V> numbers) noexcept {
  std::ranges::fill(numbers, std::numeric_limits<V>::quiet_NaN());
}

/// Integers have no NaN, but a random word hides what is added to it: the operating system's, and, in case that has
/// none to give by then, one of Philox under a key drawn while ranks can still agree on a failure. No word comes twice.
class integer_mask {
public:
  /// @throw randomness_error naming the cause.
  template <EntropySource Source = system_entropy>
  void draw_key(Source source = {}) {
    draw_entropy(std::as_writable_bytes(std::span(secret_)), source, "mask of sums");
  }

  /// Local. Before draw_key() the operating system's words stand alone.
  template <std::integral V, EntropySource Source = system_entropy>
  void spoil(std::span<V> numbers, Source source = {}) noexcept {
    constexpr std::size_t at_a_time = 32; // 256 bytes
    for (std::size_t first = 0; first < numbers.size(); first += at_a_time) {
      std::array<std::uint64_t, at_a_time> words{};
      try {
        source(std::as_writable_bytes(std::span(words)));
      } catch (...) { // then Philox hides them alone
      }
      for (std::size_t k = 0; k < at_a_time && first + k < numbers.size(); ++k)
        numbers[first + k] = static_cast<V>(words[k] ^ next_word());
    }
  }

private:
  [[nodiscard]] std::uint64_t next_word() noexcept {
    const philox_counter counter{static_cast<std::uint32_t>(drawn_), static_cast<std::uint32_t>(drawn_ >> 32),
                                 secret_[2], secret_[3]};
    ++drawn_;
    const auto block = philox4x32_10(counter, {secret_[0], secret_[1]});
    return static_cast<std::uint64_t>(block[0]) << 32 | block[1];
  }

  std::array<std::uint32_t, 4> secret_{}; // key, and half of the counter
  std::uint64_t drawn_ = 0;
};

} // namespace dpopt
