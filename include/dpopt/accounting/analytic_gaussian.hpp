// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The exact (epsilon, delta) curve of the Gaussian mechanism without sampling: Balle and Wang 2018, arXiv:1805.06530,
/// theorem 8. With s the noise multiplier, a = 1 / (2 s) - epsilon s and b = a + 2 epsilon s,
///
///     delta = F(a) - exp(epsilon) F(-b),    F the normal distribution.
///
/// n releases at multipliers s_1 .. s_n are one release at s = (sum 1 / s_i^2)^(-1/2), so this is the least that a run
/// without sampling can cost, also when gradients depend on earlier releases. Not for discrete noise.
#pragma once

#include "dpopt/core/error.hpp"

#include <cmath>

namespace dpopt {

namespace detail {

/// (1 - F(x)) / f(x), f the density of F: Mills' ratio. From 5 on by its continued fraction
/// 1 / (x + 1 / (x + 2 / ...)).
inline double mills_ratio(double x) {
  constexpr double root_half_pi = 1.25331413731550025121;
  if (x < 5) return root_half_pi * std::exp(x * x / 2) * std::erfc(x / std::sqrt(2.0));
  double tail = x;
  for (int k = 60; k > 0; --k) tail = x + k / tail;
  return 1 / tail;
}

/// Least x in (low, high] with too_small(x) false, from above; too_small is monotone and false at high.
template <class F>
double bisect_up(double low, double high, F too_small) {
  for (double middle = low + (high - low) / 2; low < middle && middle < high; middle = low + (high - low) / 2)
    (too_small(middle) ? low : high) = middle;
  return high;
}

} // namespace detail

/// delta at epsilon >= 0 with noise multiplier s > 0. exp(epsilon) F(-b) is f(a) times Mills' ratio at b, which neither
/// overflows nor cancels more than the curve itself does. @throw invalid_argument for arguments out of range.
[[nodiscard]] inline double analytic_gaussian_delta(double epsilon, double noise_multiplier) {
  if (!(epsilon >= 0 && std::isfinite(epsilon)))
    throw invalid_argument(message("epsilon is ", epsilon, "; use a finite number, 0 or more"));
  if (!(noise_multiplier > 0 && std::isfinite(noise_multiplier)))
    throw invalid_argument(message("noise_multiplier is ", noise_multiplier, "; use a finite number above 0"));
  const double a = 0.5 / noise_multiplier - epsilon * noise_multiplier;
  const double b = 0.5 / noise_multiplier + epsilon * noise_multiplier;
  const double density = std::exp(-a * a / 2) / std::sqrt(2 * 3.14159265358979323846);
  if (a < 0) return density * (detail::mills_ratio(-a) - detail::mills_ratio(b));
  return 0.5 * std::erfc(-a / std::sqrt(2.0)) - density * detail::mills_ratio(b);
}

/// Least epsilon at delta. @throw invalid_argument unless 0 < delta < 1 and the multiplier is above 0.
[[nodiscard]] inline double analytic_gaussian_epsilon(double delta, double noise_multiplier) {
  if (!(delta > 0 && delta < 1)) throw invalid_argument(message("delta is ", delta, "; use a number in (0, 1)"));
  const auto too_small = [&](double epsilon) { return analytic_gaussian_delta(epsilon, noise_multiplier) > delta; };
  if (!too_small(0)) return 0;
  double high = 1;
  while (too_small(high)) high *= 2;
  return detail::bisect_up(0.0, high, too_small);
}

/// Least noise multiplier for one release at (epsilon, delta). @throw invalid_argument for a target out of range.
[[nodiscard]] inline double analytic_gaussian_multiplier(double epsilon, double delta) {
  if (!(delta > 0 && delta < 1)) throw invalid_argument(message("delta is ", delta, "; use a number in (0, 1)"));
  const auto too_small = [&](double s) { return analytic_gaussian_delta(epsilon, s) > delta; };
  double high = 1;
  while (too_small(high)) high *= 2;
  return detail::bisect_up(0.0, high, too_small);
}

} // namespace dpopt
