// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The four elementary functions that Gaussian noise needs, with the same bits on every machine.
///
/// Why not std::log, std::cos: they differ between C libraries in the last bit and are not vectorised. These are
/// branch-free, use only correctly rounded operations (+ - * /) in one fixed order, and vectorise already in SSE2.
/// Accuracy: within 3 units in the last place of their type; the polynomials are minimax (relative error of the whole
/// function, Remez), truncated below 2^-57 in double and 2^-28 in float.
#pragma once

#include "dpopt/core/platform.hpp"

#include <bit>
#include <cstdint>

namespace dpopt::detail {

/// 1 / sqrt(t) for t > 0; finite for t = 0, so that t * inverse_sqrt(t) is sqrt(t) there too. The bits of a float are
/// nearly its logarithm, and the logarithm of the result is linear in that of t: a start within 3.5 %. Each of Newton's
/// iterations then squares the error: 3 for float.
DPOPT_FORCE_INLINE DPOPT_NO_CONTRACT DPOPT_DEVICE inline float inverse_sqrt(float t) {
  DPOPT_NO_CONTRACT_BLOCK
  float y = std::bit_cast<float>(0x5F375A86u - (std::bit_cast<std::uint32_t>(t) >> 1));
  const float half = 0.5F * t;
  y = y * (1.5F - (half * y) * y); // half * y first: y * y overflows for t = 0
  y = y * (1.5F - (half * y) * y);
  y = y * (1.5F - (half * y) * y);
  return y;
}

/// The same in double: 4 iterations.
DPOPT_FORCE_INLINE DPOPT_NO_CONTRACT DPOPT_DEVICE inline double inverse_sqrt(double t) {
  DPOPT_NO_CONTRACT_BLOCK
  double y = std::bit_cast<double>(0x5FE6EB50C7B537A9u - (std::bit_cast<std::uint64_t>(t) >> 1));
  const double half = 0.5 * t;
  y = y * (1.5 - (half * y) * y);
  y = y * (1.5 - (half * y) * y);
  y = y * (1.5 - (half * y) * y);
  y = y * (1.5 - (half * y) * y);
  return y;
}

/// -2 ln u for a normal u in (0, 1]. u = 2^e m with m in [sqrt(1/2), sqrt(2)); ln m = 2 atanh(s), s = (m-1)/(m+1).
DPOPT_FORCE_INLINE DPOPT_NO_CONTRACT DPOPT_DEVICE inline float minus_two_log(float u) {
  DPOPT_NO_CONTRACT_BLOCK
  const auto bits = std::bit_cast<std::int32_t>(u);
  const std::int32_t exponent = (bits - 0x3F3504F3) >> 23; // 0x3F3504F3 is sqrt(1/2)
  const float m = std::bit_cast<float>(bits - exponent * 0x800000);
  const float s = (m - 1.0F) / (m + 1.0F);
  const float z = s * s;
  float p = 0x1.31e2f0p-3F;
  p = p * z + 0x1.995ebap-3F;
  p = p * z + 0x1.55557ap-2F;
  const float half_log_m = s + s * (z * p);
  return static_cast<float>(exponent) * -0x1.62e430p+0F - 4.0F * half_log_m;
}

/// The same in double. The exponent is kept positive and made a double by its bits: 64-bit shifts with sign and
/// conversions from 64-bit integers have no SSE2 or AVX2 instruction.
DPOPT_FORCE_INLINE DPOPT_NO_CONTRACT DPOPT_DEVICE inline double minus_two_log(double u) {
  DPOPT_NO_CONTRACT_BLOCK
  const auto bits = std::bit_cast<std::uint64_t>(u);
  const std::uint64_t biased = (bits - 0x3FE6A09E667F3BCDu + 0x4000000000000000u) >> 52; // exponent + 1024
  const double m = std::bit_cast<double>(bits - (biased << 52) + 0x4000000000000000u);
  const double exponent = std::bit_cast<double>(biased | 0x4330000000000000u) - (0x1p52 + 1024.0);
  const double s = (m - 1.0) / (m + 1.0);
  const double z = s * s;
  double p = 0x1.2f056331d5b8dp-4;
  p = p * z + 0x1.39a1bad339b8fp-4;
  p = p * z + 0x1.74663ee64a0dfp-4;
  p = p * z + 0x1.c71c52096ec65p-4;
  p = p * z + 0x1.24924941f1028p-3;
  p = p * z + 0x1.999999997fdbbp-3;
  p = p * z + 0x1.5555555555592p-2;
  const double half_log_m = s + s * (z * p);
  return exponent * -0x1.62e42fefa39efp+0 - 4.0 * half_log_m;
}

/// sin(y) for |y| <= pi/4.
DPOPT_FORCE_INLINE DPOPT_NO_CONTRACT DPOPT_DEVICE inline float sin_octant(float y) {
  DPOPT_NO_CONTRACT_BLOCK
  const float z = y * y;
  float p = -0x1.994eb2p-13F;
  p = p * z + 0x1.110760p-7F;
  p = p * z - 0x1.555546p-3F;
  return y + y * (z * p);
}

/// cos(y) for |y| <= pi/4.
DPOPT_FORCE_INLINE DPOPT_NO_CONTRACT DPOPT_DEVICE inline float cos_octant(float y) {
  DPOPT_NO_CONTRACT_BLOCK
  const float z = y * y;
  float p = 0x1.9a0258p-16F;
  p = p * z - 0x1.6c0c8cp-10F;
  p = p * z + 0x1.55554ap-5F;
  return (1.0F - 0.5F * z) + (z * z) * p;
}

/// sin(y) for |y| <= pi/4.
DPOPT_FORCE_INLINE DPOPT_NO_CONTRACT DPOPT_DEVICE inline double sin_octant(double y) {
  DPOPT_NO_CONTRACT_BLOCK
  const double z = y * y;
  double p = 0x1.5d932f9628307p-33;
  p = p * z - 0x1.ae5e66d636967p-26;
  p = p * z + 0x1.71de357876802p-19;
  p = p * z - 0x1.a01a019c126e3p-13;
  p = p * z + 0x1.111111110f881p-7;
  p = p * z - 0x1.5555555555549p-3;
  return y + y * (z * p);
}

/// cos(y) for |y| <= pi/4.
DPOPT_FORCE_INLINE DPOPT_NO_CONTRACT DPOPT_DEVICE inline double cos_octant(double y) {
  DPOPT_NO_CONTRACT_BLOCK
  const double z = y * y;
  double p = -0x1.8faecfbe5e299p-37;
  p = p * z + 0x1.1ee9ec48e02c9p-29;
  p = p * z - 0x1.27e4f80a78346p-22;
  p = p * z + 0x1.a01a019cb271ap-16;
  p = p * z - 0x1.6c16c16c15184p-10;
  p = p * z + 0x1.555555555554cp-5;
  return (1.0 - 0.5 * z) + (z * z) * p;
}

} // namespace dpopt::detail
