// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Elementary functions of the numbers that all ranks must hold alike: scheduled and learned bounds, noise multipliers.
///
/// Why not std::exp, std::pow, std::cos: they may differ in the last bit between C libraries and even between
/// processors under one, and ranks whose bounds differ in one bit refuse the step. These use only correctly rounded
/// operations
/// (+ - * /) in one fixed order. Accuracy: relative 1e-15, but for power, whose error grows as n ulps.
#pragma once

#include "dpopt/core/platform.hpp"

#include <cmath>
#include <cstdint>
#include <limits>

namespace dpopt {

/// x^n by repeated squaring; x^0 is 1.
[[nodiscard]] inline double portable_power(double x, std::uint64_t n) noexcept {
  double out = 1;
  for (; n > 0; n /= 2) {
    if (n % 2 == 1) out *= x;
    x *= x;
  }
  return out;
}

/// e^x; 0 and infinity beyond the range of double, NaN for NaN. x = k ln 2 + r with |r| <= 0.35, whose series ends
/// below half an ulp after 13 terms.
[[nodiscard]] DPOPT_NO_CONTRACT inline double portable_exp(double x) noexcept {
  DPOPT_NO_CONTRACT_BLOCK
  if (x > 710) return std::numeric_limits<double>::infinity();
  if (x < -746) return 0;
  if (std::isnan(x)) return x;
  const double k = std::floor(x * 0x1.71547652b82fep+0 + 0.5);
  const double r =
      (x - k * 0x1.62e42feep-1) - k * 0x1.a39ef35793c76p-33; // ln 2 in two parts; the first product is exact
  double sum = 1;
  for (int term = 13; term > 0; --term) sum = 1 + r * sum / term;
  return std::ldexp(sum, static_cast<int>(k));
}

/// cos(pi x) for x in [0, 1]; exactly 1, -1 at the ends. The series in (pi x)^2 ends below half an ulp after 12 terms.
[[nodiscard]] DPOPT_NO_CONTRACT inline double portable_cos_pi(double x) noexcept {
  DPOPT_NO_CONTRACT_BLOCK
  const double half = x > 0.5 ? 1 - x : x; // cos(pi x) = -cos(pi (1 - x))
  const double y = half * 0x1.921fb54442d18p+1;
  const double z = y * y;
  double sum = 1;
  for (int term = 24; term > 0; term -= 2) sum = 1 - z * sum / (term * (term - 1));
  return x > 0.5 ? -sum : sum;
}

} // namespace dpopt
