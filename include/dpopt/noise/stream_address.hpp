// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// An address as the 128-bit counter of a counter-based generator, injectively: two addresses that differ give two
/// counters that differ, so no random word is ever used twice under one key.
///
///     purpose 8 bits | lane 24 | step 40 | parameter 20 | block 36
///
/// A value outside its field is refused with randomness_error, since wrapping around would repeat noise. The room:
/// 16.7 million ranks, 10^12 steps, a million parameters, 2^36 blocks (2^38 floats or 2^37 doubles) each.
#pragma once

#include "dpopt/core/error.hpp"
#include "dpopt/core/platform.hpp"
#include "dpopt/noise/noise_mechanism.hpp"
#include "dpopt/noise/philox.hpp"

#include <cstdint>

namespace dpopt {

/// First value that no longer fits in each field.
struct stream_limits {
  static constexpr std::uint64_t lane = std::uint64_t{1} << 24;
  static constexpr std::uint64_t step = std::uint64_t{1} << 40;
  static constexpr std::uint64_t parameter = std::uint64_t{1} << 20;
  static constexpr std::uint64_t block = std::uint64_t{1} << 36;
};

namespace detail {
inline void require_within(std::uint64_t value, std::uint64_t limit, const char* field) {
  if (value >= limit) {
    throw randomness_error(message("the random stream is exhausted: ", field, " ", value, " is not below ", limit,
                                   "; continuing would repeat noise, so start a run with a fresh seed"));
  }
}

/// The layout above, for fields that were checked before.
[[nodiscard]] DPOPT_DEVICE constexpr philox_counter packed_counter(const address& where, std::uint64_t block) {
  const auto what = static_cast<std::uint32_t>(where.what);
  return {static_cast<std::uint32_t>(block),
          static_cast<std::uint32_t>(block >> 32) | (where.parameter << 4) | (what << 24),
          static_cast<std::uint32_t>(where.step), static_cast<std::uint32_t>(where.step >> 32) | (where.lane << 8)};
}
} // namespace detail

/// Counter of block `block` of the stream (where.what, where.lane, where.step, where.parameter); where.element is the
/// caller's business, since a block holds several elements. Blocks that agree in block / 2^32 differ in word 0 only.
/// @throw randomness_error If a field is out of range.
[[nodiscard]] inline philox_counter stream_counter(const address& where, std::uint64_t block) {
  detail::require_within(where.lane, stream_limits::lane, "lane");
  detail::require_within(where.step, stream_limits::step, "step");
  detail::require_within(where.parameter, stream_limits::parameter, "parameter");
  detail::require_within(block, stream_limits::block, "element block");
  return detail::packed_counter(where, block);
}

} // namespace dpopt
