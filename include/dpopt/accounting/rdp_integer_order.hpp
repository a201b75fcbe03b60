// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Poisson-subsampled Gaussian at an integer order: the closed sum of Mironov, Talwar and Zhang (2019),
/// arXiv:1908.10530, section 3.3.
///
/// A = sum_k C(order, k) (1 - q)^(order - k) q^k exp((k^2 - k) / (2 sigma^2)). The binomial weights sum to 1, so A - 1
/// is the same sum with exp(x) - 1 for exp(x): all terms positive, no cancellation however small q is.
#pragma once

#include "dpopt/accounting/log_sum.hpp"

#include <algorithm>
#include <cmath>

namespace dpopt::detail {

/// log(A - 1), rounded up. order is an integer >= 2, 0 < q < 1, sigma > 0.
inline double log_excess_integer_order(double order, double q, double sigma) {
  const double log_q = std::log(q);
  const double log_rest = std::log1p(-q);
  const double half_precision = 0.5 / sigma / sigma;
  log_sum sum;
  double log_choose = std::log(order); // C(order, 1)
  for (double k = 2; k <= order; ++k) {
    log_choose += std::log((order - k + 1) / k);
    const double x = k * (k - 1) * half_precision;
    const double weight = k * log_q + (order - k) * log_rest;
    sum.add(log_choose + weight + log_expm1(x), std::max({log_choose, -weight, x}));
  }
  return sum.upper_value();
}

} // namespace dpopt::detail
