// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Independent N(0, 1) numbers from uniform words: Box and Muller, "A note on the generation of random normal deviates"
/// (1958). Radius sqrt(-2 ln u), angle 2 pi a; the two numbers are the point's coordinates.
///
/// Why not the polar or the ziggurat method: rejection makes an element's number depend on its neighbours.
///
/// Tails. double: u = 2^-64 (k + 1/2) with 64 bits, rounded to double: never 0, reach sqrt(2 * 65 * ln 2) = 9.49.
/// float: u = 2^-48 (k + 1/2); k is the 32 bits of the radius word followed by the 16 lowest of the angle word: reach
/// sqrt(2 * 49 * ln 2) = 8.24. Sharing those bits moves u by less than 2^-32; it is noticeable only beyond 6.6, and
/// there the angle still has 16 bits of its own. Near u = 1 a float has steps of 2^-24: radii below 0.01 (one pair in
/// 20 000) are coarse, the smallest but 0 is 3.5e-4.
///
/// What the resolution costs: in float no random word and 1 % of the time, against 24 bits, which end at 5.9; in double
/// two words a number where one would reach 6.7.
///
/// Each stage is a loop of its own over fixed-size arrays: that is what g++ (also -O2) and clang vectorise.
#pragma once

#include "dpopt/core/platform.hpp"
#include "dpopt/noise/portable_math.hpp"

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace dpopt::detail {

/// The two coordinates.
template <class V>
struct normal_pair {
  V x, y;
};

/// Uniform on (0, 1] from a radius word and the low half of its angle word.
DPOPT_FORCE_INLINE DPOPT_NO_CONTRACT DPOPT_DEVICE inline float unit_interval(std::uint32_t radius, std::uint32_t angle,
                                                                             float /*type*/) {
  DPOPT_NO_CONTRACT_BLOCK
  const auto high = static_cast<std::int32_t>(radius >> 8);                                 // 24 bits: exact in float
  const auto low = static_cast<std::int32_t>(((radius & 0xFFu) << 16) | (angle & 0xFFFFu)); // 24 bits: exact too
  return static_cast<float>(high) * 0x1p-24F + (static_cast<float>(low) + 0.5F) * 0x1p-48F;
}

/// Uniform on (0, 1] from 64 bits given as two words. A word under the exponent of 2^52 is its value, exactly.
DPOPT_FORCE_INLINE DPOPT_NO_CONTRACT DPOPT_DEVICE inline double unit_interval(std::uint32_t high, std::uint32_t low,
                                                                              double /*type*/) {
  DPOPT_NO_CONTRACT_BLOCK
  const double h = std::bit_cast<double>(std::uint64_t{high} | 0x4330000000000000u) - 0x1p52;
  const double l = std::bit_cast<double>(std::uint64_t{low} | 0x4330000000000000u) - 0x1p52;
  return h * 0x1p-32 + (l + 0.5) * 0x1p-64;
}

/// A uniform 32-bit angle as a quarter of the circle (top two bits of `quarter`) and an offset in [-pi/4, pi/4).
/// The half unit makes the set of angles symmetric, and so the mean exactly 0.
DPOPT_FORCE_INLINE DPOPT_NO_CONTRACT DPOPT_DEVICE inline normal_pair<float> on_circle(float radius,
                                                                                      std::uint32_t angle) {
  DPOPT_NO_CONTRACT_BLOCK
  const std::uint32_t quarter = angle + 0x20000000u;
  const auto offset = static_cast<std::int32_t>(quarter & 0x3FFFFFFFu) - 0x20000000;
  const float y = (static_cast<float>(offset) + 0.5F) * 0x1.921fb6p-30F; // 2 pi / 2^32
  const auto c = std::bit_cast<std::uint32_t>(radius * cos_octant(y));
  const auto s = std::bit_cast<std::uint32_t>(radius * sin_octant(y));
  // Turn by quarters: swap the coordinates where bit 30 is set, then their signs.
  const std::uint32_t swap = (c ^ s) & (0u - ((quarter >> 30) & 1u));
  return {std::bit_cast<float>(c ^ swap ^ ((quarter + 0x40000000u) & 0x80000000u)),
          std::bit_cast<float>(s ^ swap ^ (quarter & 0x80000000u))};
}

/// The same for a 64-bit angle, given as two words.
DPOPT_FORCE_INLINE DPOPT_NO_CONTRACT DPOPT_DEVICE inline normal_pair<double>
on_circle(double radius, std::uint32_t high, std::uint32_t low) {
  DPOPT_NO_CONTRACT_BLOCK
  const std::uint64_t quarter = std::uint64_t{high} + 0x20000000u;
  const double offset = std::bit_cast<double>((quarter & 0x3FFFFFFFu) | 0x4330000000000000u) - (0x1p52 + 0x1p29);
  const double rest = std::bit_cast<double>(std::uint64_t{low} | 0x4330000000000000u) - 0x1p52 + 0.5;
  const double y = (offset * 0x1p32 + rest) * 0x1.921fb54442d18p-62; // 2 pi / 2^64
  const auto c = std::bit_cast<std::uint64_t>(radius * cos_octant(y));
  const auto s = std::bit_cast<std::uint64_t>(radius * sin_octant(y));
  const std::uint64_t swap = (c ^ s) & (0u - ((quarter >> 30) & 1u));
  return {std::bit_cast<double>(c ^ swap ^ (((quarter + 0x40000000u) << 32) & 0x8000000000000000u)),
          std::bit_cast<double>(s ^ swap ^ ((quarter << 32) & 0x8000000000000000u))};
}

/// 2 N standard normal floats from N radius words and N angle words, for each of `Rows` rows: the x coordinates of a
/// row, then its y coordinates. Rows go through each stage together: one alone waits for its own results.
template <std::size_t Rows, std::size_t N>
DPOPT_FORCE_INLINE DPOPT_NO_CONTRACT DPOPT_DEVICE inline void
box_muller_rows(const std::array<std::uint32_t, N>* radius, const std::array<std::uint32_t, N>* angle, float* out) {
  DPOPT_NO_CONTRACT_BLOCK
  std::array<float, Rows * N> r;
  for (std::size_t row = 0; row < Rows; ++row) {
    for (std::size_t i = 0; i < N; ++i) r[row * N + i] = unit_interval(radius[row][i], angle[row][i], float{});
  }
  for (std::size_t i = 0; i < Rows * N; ++i) {
    r[i] = minus_two_log(r[i]);
  }
  for (std::size_t i = 0; i < Rows * N; ++i) {
    r[i] = r[i] * inverse_sqrt(r[i]);
  }
  for (std::size_t row = 0; row < Rows; ++row) {
    for (std::size_t i = 0; i < N; ++i) {
      const normal_pair<float> point = on_circle(r[row * N + i], angle[row][i]);
      out[row * 2 * N + i] = point.x;
      out[row * 2 * N + N + i] = point.y;
    }
  }
}

/// The same for one row.
template <std::size_t N>
DPOPT_FORCE_INLINE DPOPT_NO_CONTRACT DPOPT_DEVICE inline void
box_muller(const std::array<std::uint32_t, N>& radius, const std::array<std::uint32_t, N>& angle, float* out) {
  box_muller_rows<1>(&radius, &angle, out);
}

/// 2 N standard normal doubles from N radii and N angles of 64 bits, each given as its high and its low words.
template <std::size_t N>
DPOPT_FORCE_INLINE DPOPT_NO_CONTRACT DPOPT_DEVICE inline void
box_muller(const std::array<std::uint32_t, N>& radius_high, const std::array<std::uint32_t, N>& radius_low,
           const std::array<std::uint32_t, N>& angle_high, const std::array<std::uint32_t, N>& angle_low, double* out) {
  DPOPT_NO_CONTRACT_BLOCK
  std::array<double, N> r;
  for (std::size_t i = 0; i < N; ++i) {
    r[i] = unit_interval(radius_high[i], radius_low[i], double{});
  }
  for (std::size_t i = 0; i < N; ++i) {
    r[i] = minus_two_log(r[i]);
  }
  for (std::size_t i = 0; i < N; ++i) {
    r[i] = r[i] * inverse_sqrt(r[i]);
  }
  for (std::size_t i = 0; i < N; ++i) {
    const normal_pair<double> point = on_circle(r[i], angle_high[i], angle_low[i]);
    out[i] = point.x;
    out[N + i] = point.y;
  }
}

} // namespace dpopt::detail
