// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Poisson-subsampled Gaussian at any order > 1, by quadrature.
///
/// With u(s) = q (exp(s / sigma - 1 / (2 sigma^2)) - 1) and s standard normal, A = E (1 + u)^order (Mironov, Talwar and
/// Zhang, arXiv:1908.10530, section 3.1). As E u = 0, A - 1 = E [(1 + u)^order - 1 - order u], whose integrand is
/// positive, so the sum cancels nothing. The integrand is analytic for |Im s| < pi sigma and decays like a Gaussian, so
/// the trapezoidal rule converges exponentially (Trefethen and Weideman, SIAM Review 56, 2014, theorem 5.1): with the
/// step used here its error is below exp(-45) of the result. The alternating series of section 3.3 needs more terms and
/// loses digits.
#pragma once

#include "dpopt/accounting/log_sum.hpp"
#include "dpopt/accounting/rdp_integer_order.hpp"

#include <algorithm>
#include <cmath>

namespace dpopt::detail {

/// log((1 + u)^order - 1 - order u) with beta = order - 1 > 0 and log_ratio = log(1 + u). Written as
/// (1 + u) g, g = exp(beta L) - 1 + beta (exp(-L) - 1), which stays exact for order near 1 and for huge u.
inline double log_power_excess(double beta, double log_ratio) {
  const double l = log_ratio;
  if (std::max(1.0, beta) * std::abs(l) < 0.5) {
    // The terms of order L cancel. Series of g / (beta L^2): sum over k of (beta^(k - 1) + (-1)^k) L^(k - 2) / k!.
    double series = 0, power = beta, sign = 1, factor = 0.5;
    for (int k = 2; k <= 16; ++k) {
      series += (power + sign) * factor;
      power *= beta;
      sign = -sign;
      factor *= l / (k + 1);
    }
    return l + std::log(beta) + 2 * std::log(std::abs(l)) + std::log(series);
  }
  const double linear = beta * std::expm1(-l);
  if (beta * l > 30) return l + beta * l + std::log1p((linear - 1) * std::exp(-beta * l));
  return l + std::log(std::expm1(beta * l) + linear);
}

/// Number of points that the quadrature takes; grows like order / sigma^2 for small sigma.
inline double quadrature_points(double order, double sigma) {
  return std::ceil((order / sigma + 24) / std::min(0.45, 0.35 * sigma));
}

/// log(A - 1), rounded up. order > 1, 0 < q < 1, sigma > 0.
inline double log_excess_by_quadrature(double order, double q, double sigma) {
  const double log_q = std::log(q);
  const double log_rest = std::log1p(-q);
  const double step = std::min(0.45, 0.35 * sigma);
  const double points = quadrature_points(order, sigma);
  log_sum sum;
  for (double i = 0; i <= points; ++i) {
    // The integrand has its mass within 12 standard deviations of [0, order / sigma]; beyond is under 1e-30 of it.
    const double s = -12 + i * step;
    const double y = (s - 0.5 / sigma) / sigma;
    const double log_ratio = y < 700 ? std::log1p(q * std::expm1(y)) : log_rest + log1p_exp(log_q + y - log_rest);
    const double gauss = 0.5 * s * s;
    sum.add(log_power_excess(order - 1, log_ratio) - gauss, std::max(order * std::abs(y), gauss));
  }
  constexpr double log_root_two_pi = 0.91893853320467274178;
  return sum.upper_value() + std::log(step) - log_root_two_pi;
}

/// log A from above, through the integer orders next to `order`: log A is convex in the order, as every cumulant
/// generating function is, and 0 at order 1. For sigma so small that the quadrature would take too many points.
inline double log_moment_by_convexity(double order, double q, double sigma) {
  const double below = std::floor(order);
  const double above = log1p_exp(log_excess_integer_order(below + 1, q, sigma));
  const double base = below < 2 ? 0 : log1p_exp(log_excess_integer_order(below, q, sigma));
  return base + (order - below) * (above - base);
}

} // namespace dpopt::detail
