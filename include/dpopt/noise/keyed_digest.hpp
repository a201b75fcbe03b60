// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// A digest by which ranks compare a secret without sending it: Philox 4x32-10 keyed with the secret itself, so that
/// going back means trying all keys.
#pragma once

#include "dpopt/noise/philox.hpp"

#include <cstddef>
#include <cstdint>
#include <span>

namespace dpopt {

/// Alike exactly for equal secrets of up to 24 bytes, but for chance (2^-64); longer ones are folded block by block.
[[nodiscard]] inline std::uint64_t keyed_digest(std::span<const std::byte> secret) {
  std::uint64_t digest = secret.size();
  for (std::size_t at = 0; at < secret.size(); at += 8) {
    std::uint64_t word = 0;
    for (std::size_t k = at; k < at + 8 && k < secret.size(); ++k)
      word = word << 8 | std::to_integer<std::uint64_t>(secret[k]);
    const auto out = philox4x32_10({static_cast<std::uint32_t>(digest), static_cast<std::uint32_t>(digest >> 32),
                                    static_cast<std::uint32_t>(at), 0x64696765},
                                   {static_cast<std::uint32_t>(word), static_cast<std::uint32_t>(word >> 32)});
    digest = std::uint64_t{out[1]} << 32 | out[0];
  }
  return digest;
}

} // namespace dpopt
