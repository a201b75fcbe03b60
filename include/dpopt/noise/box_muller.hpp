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
/// Stages of the float are written for one number or a vector of them (normal_vectors.hpp). In box_muller() each stage
/// is a loop of its own over fixed-size arrays: that is what g++ (also -O2) and clang vectorise.
#pragma once

#include "dpopt/core/platform.hpp"
#include "dpopt/core/vector_operations.hpp"
#include "dpopt/noise/portable_math.hpp"

#include <array>
#include <bit>
#include <cstddef>
#include <cstdint>

namespace dpopt::detail {

/// u is uniform on (0, 1], in units of 2^-24, from a radius word and the low half of its angle word. R is float, or a
/// vector of them with its vectors of words.
template <class R>
DPOPT_FORCE_INLINE DPOPT_NO_CONTRACT DPOPT_DEVICE inline void unit_interval(const words_of<R>& radius,
                                                                            const words_of<R>& angle, R& u) {
  DPOPT_NO_CONTRACT_BLOCK
  R high, low; // 24 bits each: exact in float
  signed_to_float(radius >> 8, high);
  signed_to_float(((radius & 0xFFu) << 16) | (angle & 0xFFFFu), low);
  u = high + (low + 0.5F) * 0x1p-24F;
}

/// Uniform on (0, 1] from 64 bits given as two words. A word under the exponent of 2^52 is its value, exactly.
DPOPT_FORCE_INLINE DPOPT_NO_CONTRACT DPOPT_DEVICE inline void unit_interval(std::uint32_t high, std::uint32_t low,
                                                                            double& u) {
  DPOPT_NO_CONTRACT_BLOCK
  const double h = std::bit_cast<double>(std::uint64_t{high} | 0x4330000000000000u) - 0x1p52;
  const double l = std::bit_cast<double>(std::uint64_t{low} | 0x4330000000000000u) - 0x1p52;
  u = h * 0x1p-32 + (l + 0.5) * 0x1p-64;
}

/// (x, y) is the point of the unit circle at a uniform 32-bit angle: a quarter (top two bits of `quarter`) and an
/// offset in [-pi/4, pi/4). The half unit makes the set of angles symmetric, and so the mean exactly 0.
template <class R>
DPOPT_FORCE_INLINE DPOPT_NO_CONTRACT DPOPT_DEVICE inline void on_circle(const words_of<R>& angle, R& x, R& y) {
  DPOPT_NO_CONTRACT_BLOCK
  const words_of<R> quarter = angle + 0x20000000u;
  R offset; // times 4
  signed_to_float(angle << 2, offset);
  const R in_octant = (offset + 2.0F) * 0x1.921fb6p-32F; // 2 pi / 2^34
  R cosine, sine;
  cos_octant(in_octant, cosine);
  sin_octant(in_octant, sine);
  words_of<R> c, s;
  copy_bits(cosine, c);
  copy_bits(sine, s);
  // Turn by quarters: swap the coordinates where bit 30 is set, then their signs.
  const auto swap = (quarter & 0x40000000u) != 0u;
  const words_of<R> first = swap ? s : c, second = swap ? c : s;
  copy_bits(first ^ ((quarter + 0x40000000u) & 0x80000000u), x);
  copy_bits(second ^ (quarter & 0x80000000u), y);
}

/// The same for a 64-bit angle, given as two words.
DPOPT_FORCE_INLINE DPOPT_NO_CONTRACT DPOPT_DEVICE inline void on_circle(std::uint32_t high, std::uint32_t low,
                                                                        double& x, double& y) {
  DPOPT_NO_CONTRACT_BLOCK
  const std::uint64_t quarter = std::uint64_t{high} + 0x20000000u;
  const double offset = std::bit_cast<double>((quarter & 0x3FFFFFFFu) | 0x4330000000000000u) - (0x1p52 + 0x1p29);
  const double rest = std::bit_cast<double>(std::uint64_t{low} | 0x4330000000000000u) - 0x1p52 + 0.5;
  const double in_octant = (offset * 0x1p32 + rest) * 0x1.921fb54442d18p-62; // 2 pi / 2^64
  double cosine, sine;
  cos_octant(in_octant, cosine);
  sin_octant(in_octant, sine);
  const auto c = std::bit_cast<std::uint64_t>(cosine);
  const auto s = std::bit_cast<std::uint64_t>(sine);
  const std::uint64_t swap = (c ^ s) & (0u - ((quarter >> 30) & 1u));
  x = std::bit_cast<double>(c ^ swap ^ (((quarter + 0x40000000u) << 32) & 0x8000000000000000u));
  y = std::bit_cast<double>(s ^ swap ^ ((quarter << 32) & 0x8000000000000000u));
}

/// 2 N standard normal floats from N radius words and N angle words: the x coordinates, then the y coordinates.
template <std::size_t N>
DPOPT_FORCE_INLINE DPOPT_NO_CONTRACT DPOPT_DEVICE inline void
box_muller(const std::array<std::uint32_t, N>& radius, const std::array<std::uint32_t, N>& angle, float* out) {
  DPOPT_NO_CONTRACT_BLOCK
  std::array<float, N> r;
  for (std::size_t i = 0; i < N; ++i) {
    unit_interval(radius[i], angle[i], r[i]);
  }
  for (std::size_t i = 0; i < N; ++i) {
    minus_four_log(r[i]);
  }
  for (std::size_t i = 0; i < N; ++i) {
    sqrt_of_half(r[i]);
  }
  for (std::size_t i = 0; i < N; ++i) {
    float x, y;
    on_circle(angle[i], x, y);
    out[i] = r[i] * x;
    out[N + i] = r[i] * y;
  }
}

/// 2 N standard normal doubles from N radii and N angles of 64 bits, each given as its high and its low words.
template <std::size_t N>
DPOPT_FORCE_INLINE DPOPT_NO_CONTRACT DPOPT_DEVICE inline void
box_muller(const std::array<std::uint32_t, N>& radius_high, const std::array<std::uint32_t, N>& radius_low,
           const std::array<std::uint32_t, N>& angle_high, const std::array<std::uint32_t, N>& angle_low, double* out) {
  DPOPT_NO_CONTRACT_BLOCK
  std::array<double, N> r;
  for (std::size_t i = 0; i < N; ++i) {
    unit_interval(radius_high[i], radius_low[i], r[i]);
  }
  for (std::size_t i = 0; i < N; ++i) {
    minus_four_log(r[i]);
  }
  for (std::size_t i = 0; i < N; ++i) {
    sqrt_of_half(r[i]);
  }
  for (std::size_t i = 0; i < N; ++i) {
    double x, y;
    on_circle(angle_high[i], angle_low[i], x, y);
    out[i] = r[i] * x;
    out[N + i] = r[i] * y;
  }
}

} // namespace dpopt::detail
