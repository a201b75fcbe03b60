// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// What makes a counter-based stream unpredictable: a seed (the user's, or one from the operating system) and the
/// incarnation of the run, as bytes that the root shares with all ranks.
#pragma once

#include "dpopt/core/entropy.hpp"
#include "dpopt/core/error.hpp"
#include "dpopt/noise/philox.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>

namespace dpopt {

/// Seed and incarnation once drawn. Never print the bytes.
class stream_secret {
public:
  /// Takes the user's seed, or 64 fresh bits from the source.
  /// @param incarnation apart for each start of a run that may repeat step numbers.
  /// @throw randomness_error naming the cause if the source has no entropy to give; nothing changes.
  template <EntropySource Source = system_entropy>
  void draw(const std::optional<std::uint64_t>& seed, std::uint64_t incarnation, Source source = {}) {
    words_ = {seed ? *seed : fresh_word(source), incarnation, 1};
  }

  /// Like draw(), with an incarnation that no earlier start can have used: for a start that may repeat step numbers.
  /// @throw as draw().
  template <EntropySource Source = system_entropy>
  void renew(const std::optional<std::uint64_t>& seed, Source source = {}) {
    const std::uint64_t incarnation = fresh_word(source);
    draw(seed, incarnation, source);
  }

  /// The 24 bytes that ranks must share.
  [[nodiscard]] std::span<std::byte> bytes() noexcept { return std::as_writable_bytes(std::span(words_)); }

  /// Key number `use` (0 or 1) by Philox itself under a key that spells dpopt; uses with one key must differ in
  /// counters.
  /// @throw state_error before draw() or before the root's bytes were copied here.
  [[nodiscard]] philox_key key(int use) const {
    if (words_[2] != 1)
      throw state_error("random numbers were asked for before a secret was shared: call draw_secret() on the root and "
                        "copy secret() to the other ranks");
    const auto keys =
        philox4x32_10({static_cast<std::uint32_t>(words_[0]), static_cast<std::uint32_t>(words_[0] >> 32),
                       static_cast<std::uint32_t>(words_[1]), static_cast<std::uint32_t>(words_[1] >> 32)},
                      {0x706f7064, 0x00000074});
    return use == 0 ? philox_key{keys[0], keys[1]} : philox_key{keys[2], keys[3]};
  }

private:
  template <class Source>
  static std::uint64_t fresh_word(Source& source) {
    std::uint64_t out = 0;
    draw_entropy(std::as_writable_bytes(std::span(&out, 1)), source, "seed");
    return out;
  }

  std::array<std::uint64_t, 3> words_ = {}; // seed, incarnation, 1 once drawn
};

} // namespace dpopt
