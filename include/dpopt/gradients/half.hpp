// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Storage types of 16 bits, for sources whose numbers a mixed-precision trainer keeps narrow: materialized<bfloat16>,
/// linear_weight<float16>, ... They hold numbers and do no arithmetic: the library reads them into float or double.
///
/// Conversions from float and double round to the nearest number, ties to even, as hardware does; too large ones become
/// infinity and a NaN stays one. No conversion happens unasked. Kernels read them too; what CUDA calls __half and
/// __nv_bfloat16 has the same bits.
#pragma once

#include "dpopt/core/platform.hpp"

#include <bit>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <type_traits>

namespace dpopt {

namespace detail {
/// x in float, so that a later rounding to fewer bits gives what rounding x itself would: an inexact result has its
/// last bit set ("round to odd", Boldo and Melquiond 2008), which keeps it off every tie of a narrower type.
[[nodiscard]] inline float rounded_to_odd(double x) noexcept {
  const float nearest = static_cast<float>(x);
  if (static_cast<double>(nearest) == x || std::isnan(x)) return nearest;
  auto bits = std::bit_cast<std::uint32_t>(nearest);
  if (std::abs(static_cast<double>(nearest)) > std::abs(x)) --bits;
  return std::bit_cast<float>(bits | 1u);
}
} // namespace detail

/// The upper half of a float: 8 bits of exponent, 7 of fraction.
struct bfloat16 {
  std::uint16_t bits = 0;

  bfloat16() = default;
  explicit bfloat16(float x) noexcept : bits(rounded(x)) {}
  explicit bfloat16(double x) noexcept : bits(rounded(detail::rounded_to_odd(x))) {}
  [[nodiscard]] static bfloat16 from_bits(std::uint16_t pattern) noexcept {
    bfloat16 out;
    out.bits = pattern;
    return out;
  }

  /// Exact.
  template <std::floating_point F>
  [[nodiscard]] DPOPT_DEVICE explicit operator F() const noexcept {
    return static_cast<F>(std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16));
  }

private:
  static std::uint16_t rounded(float x) noexcept {
    const auto b = std::bit_cast<std::uint32_t>(x);
    if (std::isnan(x)) return static_cast<std::uint16_t>((b >> 16) | 0x40u); // quiet, whatever bits are cut off
    return static_cast<std::uint16_t>((b + 0x7fffu + ((b >> 16) & 1u)) >> 16);
  }
};

/// IEEE 754 binary16: 5 bits of exponent, 10 of fraction; the largest number is 65504, the smallest 2^-24.
struct float16 {
  std::uint16_t bits = 0;

  float16() = default;
  explicit float16(float x) noexcept : bits(rounded(x)) {}
  explicit float16(double x) noexcept : bits(rounded(detail::rounded_to_odd(x))) {}
  [[nodiscard]] static float16 from_bits(std::uint16_t pattern) noexcept {
    float16 out;
    out.bits = pattern;
    return out;
  }

  /// Exact.
  template <std::floating_point F>
  [[nodiscard]] DPOPT_DEVICE explicit operator F() const noexcept {
    const std::uint32_t exponent = bits & 0x7c00u;
    const std::uint32_t shifted = static_cast<std::uint32_t>(bits & 0x7fffu) << 13;
    // The fraction is where float has it. Biases differ by 112. A subnormal number is read as a normal one whose
    // leading 1 is taken off again.
    const float magnitude = exponent == 0         ? std::bit_cast<float>(shifted + (113u << 23)) - 0x1p-14f
                            : exponent == 0x7c00u ? std::bit_cast<float>(shifted + (224u << 23))
                                                  : std::bit_cast<float>(shifted + (112u << 23));
    const std::uint32_t sign = static_cast<std::uint32_t>(bits & 0x8000u) << 16;
    return static_cast<F>(std::bit_cast<float>(std::bit_cast<std::uint32_t>(magnitude) | sign));
  }

private:
  static std::uint16_t rounded(float x) noexcept {
    const auto b = std::bit_cast<std::uint32_t>(x);
    const std::uint32_t sign = (b >> 16) & 0x8000u;
    const std::uint32_t m = b & 0x7fffffffu;
    std::uint32_t out = 0;
    if (m > 0x7f800000u) out = 0x7e00u;       // NaN
    else if (m >= 0x477ff000u) out = 0x7c00u; // 65520 is half way to 65536: a tie that goes to infinity
    else if (m < 0x38800000u)                 // below 2^-14 steps are 2^-24, as those of floats in [1/2, 1)
      out = std::bit_cast<std::uint32_t>(std::bit_cast<float>(m) + 0.5f) - std::bit_cast<std::uint32_t>(0.5f);
    else out = (m - (112u << 23) + 0xfffu + ((m >> 13) & 1u)) >> 13;
    return static_cast<std::uint16_t>(sign | out);
  }
};

static_assert(std::is_trivially_copyable_v<bfloat16> && sizeof(bfloat16) == 2);
static_assert(std::is_trivially_copyable_v<float16> && sizeof(float16) == 2);
static_assert(!std::is_convertible_v<float16, float> && !std::is_convertible_v<float, bfloat16>, "never unasked");

} // namespace dpopt
