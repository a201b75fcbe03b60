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
#include "dpopt/core/vector_operations.hpp"

#include <bit>
#include <cstdint>

namespace dpopt::detail {

/// t becomes sqrt(t / 2), also for t = 0. Half of t is what Newton's iteration for 1 / sqrt needs: y (3/2 - t y^2)
/// tends to 1 / sqrt(2 t), and t times that is the root. The bits of a float are nearly its logarithm, and the
/// logarithm of the result is linear in that of t: a start within 3.5 %. Each iteration then squares the error: 3 for
/// float.
template <class R>
DPOPT_FORCE_INLINE DPOPT_NO_CONTRACT DPOPT_DEVICE inline void sqrt_of_half(R& t) {
  DPOPT_NO_CONTRACT_BLOCK
  words_of<R> start;
  copy_bits(t, start);
  start = 0x5EF75A86u - (start >> 1);
  R y;
  copy_bits(start, y);
  y = y * (1.5F - (t * y) * y); // t * y first: y * y overflows for t = 0
  y = y * (1.5F - (t * y) * y);
  y = y * (1.5F - (t * y) * y);
  t = t * y;
}

/// The same in double: 4 iterations.
DPOPT_FORCE_INLINE DPOPT_NO_CONTRACT DPOPT_DEVICE inline void sqrt_of_half(double& t) {
  DPOPT_NO_CONTRACT_BLOCK
  double y = std::bit_cast<double>(0x5FDEEB50C7B537A9u - (std::bit_cast<std::uint64_t>(t) >> 1));
  y = y * (1.5 - (t * y) * y);
  y = y * (1.5 - (t * y) * y);
  y = y * (1.5 - (t * y) * y);
  y = y * (1.5 - (t * y) * y);
  t = t * y;
}

/// u becomes -4 ln u; it is normal, in (0, 1], and given in units of 2^-24. In these units u = 2^e m with m in
/// [sqrt(1/2), sqrt(2)); ln m = 2 atanh(s), s = (m-1)/(m+1).
template <class R>
DPOPT_FORCE_INLINE DPOPT_NO_CONTRACT DPOPT_DEVICE inline void minus_four_log(R& u) {
  DPOPT_NO_CONTRACT_BLOCK
  words_of<R> bits;
  copy_bits(u, bits);
  const words_of<R> exponent = (bits - 0x4B3504F3u) & 0xFF800000u; // e 2^23; 0x4B3504F3 is 2^24 sqrt(1/2)
  bits = bits - exponent;
  R m, e; // m in the units of u
  copy_bits(bits, m);
  signed_to_float(exponent, e);
  const R s = (m - 0x1p24F) / (m + 0x1p24F);
  const R z = s * s;
  const R p = (0x1.31e2f0p-3F * z + 0x1.995ebap-3F) * z + 0x1.55557ap-2F;
  const R half_log_m = s + s * (z * p);
  u = e * -0x1.62e430p-22F - 8.0F * half_log_m;
}

/// The same in double, u as it is. The exponent is kept positive and made a double by its bits: 64-bit shifts with sign
/// and conversions from 64-bit integers have no SSE2 or AVX2 instruction.
DPOPT_FORCE_INLINE DPOPT_NO_CONTRACT DPOPT_DEVICE inline void minus_four_log(double& u) {
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
  u = exponent * -0x1.62e42fefa39efp+1 - 8.0 * half_log_m;
}

/// sine = sin(y), for |y| <= pi/4.
template <class R>
DPOPT_FORCE_INLINE DPOPT_NO_CONTRACT DPOPT_DEVICE inline void sin_octant(const R& y, R& sine) {
  DPOPT_NO_CONTRACT_BLOCK
  const R z = y * y;
  const R p = (-0x1.994eb2p-13F * z + 0x1.110760p-7F) * z - 0x1.555546p-3F;
  sine = y + y * (z * p);
}

/// cosine = cos(y), for |y| <= pi/4.
template <class R>
DPOPT_FORCE_INLINE DPOPT_NO_CONTRACT DPOPT_DEVICE inline void cos_octant(const R& y, R& cosine) {
  DPOPT_NO_CONTRACT_BLOCK
  const R z = y * y;
  const R p = (0x1.9a0258p-16F * z - 0x1.6c0c8cp-10F) * z + 0x1.55554ap-5F;
  cosine = (1.0F - 0.5F * z) + (z * z) * p;
}

/// The same in double.
DPOPT_FORCE_INLINE DPOPT_NO_CONTRACT DPOPT_DEVICE inline void sin_octant(double y, double& sine) {
  DPOPT_NO_CONTRACT_BLOCK
  const double z = y * y;
  double p = 0x1.5d932f9628307p-33;
  p = p * z - 0x1.ae5e66d636967p-26;
  p = p * z + 0x1.71de357876802p-19;
  p = p * z - 0x1.a01a019c126e3p-13;
  p = p * z + 0x1.111111110f881p-7;
  p = p * z - 0x1.5555555555549p-3;
  sine = y + y * (z * p);
}

/// The same in double.
DPOPT_FORCE_INLINE DPOPT_NO_CONTRACT DPOPT_DEVICE inline void cos_octant(double y, double& cosine) {
  DPOPT_NO_CONTRACT_BLOCK
  const double z = y * y;
  double p = -0x1.8faecfbe5e299p-37;
  p = p * z + 0x1.1ee9ec48e02c9p-29;
  p = p * z - 0x1.27e4f80a78346p-22;
  p = p * z + 0x1.a01a019cb271ap-16;
  p = p * z - 0x1.6c16c16c15184p-10;
  p = p * z + 0x1.555555555554cp-5;
  cosine = (1.0 - 0.5 * z) + (z * z) * p;
}

} // namespace dpopt::detail
