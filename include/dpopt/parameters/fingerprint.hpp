// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// A 64-bit digest of a configuration, for ranks to compare. It finds mistakes, not attacks: it is NOT cryptographic,
/// a collision is easy to construct, and a short secret can be guessed from it. Never feed it a seed in the clear.
///
/// FNV-1a over a typed, length-prefixed byte string (so "ab","c" differs from "a","bc", and 1 from 1.0 and "1"),
/// finished by the mixing function of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014, variant 13 of Stafford), because
/// the high bits of plain FNV-1a hardly depend on the last bytes. The same on every platform.
#pragma once

#include <bit>
#include <concepts>
#include <cstdint>
#include <string_view>
#include <type_traits>

namespace dpopt {

class fingerprint {
public:
  /// Adds a text, its length included.
  fingerprint& add(std::string_view text) {
    byte('t');
    word(text.size());
    for (const char c : text) byte(static_cast<unsigned char>(c));
    return *this;
  }

  /// Adds a number by its bits: 0.0 and -0.0 differ, all NaNs are one. A float counts as the double of equal value.
  fingerprint& add(double value) {
    byte('d');
    word(value != value ? 0x7ff8000000000000u : std::bit_cast<std::uint64_t>(value));
    return *this;
  }

  /// Adds an integer or bool by its value, whatever its width.
  template <std::integral I>
  fingerprint& add(I value) {
    if constexpr (std::is_signed_v<I>) byte(value < 0 ? 'n' : 'p');
    else byte('p');
    word(static_cast<std::uint64_t>(value));
    return *this;
  }

  /// Adds an enumerator by its value.
  template <class E>
    requires std::is_enum_v<E>
  fingerprint& add(E value) {
    return add(static_cast<std::underlying_type_t<E>>(value));
  }

  /// The digest of everything added so far; more may be added afterwards.
  [[nodiscard]] std::uint64_t value() const noexcept {
    std::uint64_t z = state_ + 0x9e3779b97f4a7c15u;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
  }

private:
  void byte(unsigned char b) noexcept { state_ = (state_ ^ b) * 0x100000001b3u; }
  void word(std::uint64_t w) noexcept {
    for (int shift = 0; shift < 64; shift += 8) byte(static_cast<unsigned char>(w >> shift)); // low byte first
  }

  std::uint64_t state_ = 0xcbf29ce484222325u;
};

} // namespace dpopt
