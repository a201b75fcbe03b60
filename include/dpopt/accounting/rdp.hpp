// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Renyi differential privacy of the Gaussian mechanism, also on a Poisson-sampled batch, and its conversion to
/// (epsilon, delta).
///
/// Renyi divergences of releases add up at equal order, which makes composition a sum. The values here are upper
/// bounds, tight to about 1e-12 (relative) save at the noted extreme, and never below the truth by more than the
/// rounding of one number.
#pragma once

#include "dpopt/accounting/accountant.hpp"
#include "dpopt/accounting/discrete_gaussian_orders.hpp"
#include "dpopt/accounting/rdp_fractional_order.hpp"
#include "dpopt/accounting/rdp_integer_order.hpp"
#include "dpopt/core/error.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

namespace dpopt {

/// Divergence of order `order` between N(0, sigma^2) and N(1, sigma^2): order / (2 sigma^2) (Mironov 2017,
/// arXiv:1702.07476, corollary 3). Infinite without noise.
inline double gaussian_rdp(double order, double noise_multiplier) {
  return order / noise_multiplier / noise_multiplier / 2;
}

/// The Gaussian mechanism on a Poisson-sampled batch, one unit of privacy added or removed, in the worse direction
/// (Mironov, Talwar and Zhang 2019, arXiv:1908.10530, theorems 4 and 5: the direction computed here is the worse one).
/// Integer orders by the closed sum, others by quadrature; where sigma is so small (under about 0.03 at order 10) that
/// this would take over 32768 points, an upper bound from the neighbouring integer orders.
/// @param order above 1
/// @param sampling_rate in (0, 1]
/// @param noise_multiplier std of the noise over the sensitivity, 0 or more
/// @throw invalid_argument naming the argument outside its range.
inline double subsampled_gaussian_rdp(double order, double sampling_rate, double noise_multiplier) {
  if (!(order > 1 && std::isfinite(order))) {
    throw invalid_argument(message("order is ", order, "; use a finite number above 1"));
  }
  gaussian_event{.noise_multiplier = noise_multiplier, .sampling_rate = sampling_rate}.validate();
  const double full = gaussian_rdp(order, noise_multiplier);
  if (sampling_rate == 1 || !std::isfinite(full)) return full;
  constexpr double most_points = 32768;
  double log_moment = 0;
  if (order == std::floor(order)) {
    log_moment = detail::log1p_exp(detail::log_excess_integer_order(order, sampling_rate, noise_multiplier));
  } else if (detail::quadrature_points(order, noise_multiplier) <= most_points) {
    log_moment = detail::log1p_exp(detail::log_excess_by_quadrature(order, sampling_rate, noise_multiplier));
  } else {
    log_moment = detail::log_moment_by_convexity(order, sampling_rate, noise_multiplier);
  }
  return std::min(log_moment / (order - 1), full); // sampling never costs more (joint quasi-convexity)
}

/// Divergence of one release of the event, whatever its count. Infinite where nothing is proven: for discrete noise at
/// an order that is no integer.
///
/// replace_one gets no amplification by sampling: given the sampled positions, both data sets contribute the same units
/// save the exchanged one, so the sums differ by at most the sensitivity 2C (or not at all), and the divergence of the
/// mixture over positions is at most the largest (joint quasi-convexity: van Erven and Harremoes 2014, theorem 13). The
/// subsampled formula is for one unit more or less and does not hold here.
inline double rdp_of_one(const gaussian_event& event, double order) {
  if (event.kind == noise_kind::discrete_gaussian && !holds_for_discrete_gaussian(order))
    return std::numeric_limits<double>::infinity();
  const double rate = event.relation == neighbouring::replace_one ? 1.0 : event.sampling_rate;
  return subsampled_gaussian_rdp(order, rate, event.noise_multiplier);
}

/// Smallest epsilon that a divergence `rdp` of order `order` gives at delta: rdp + log(1 - 1 / order) -
/// log(delta order) / (order - 1), at least 0 (Canonne, Kamath and Steinke 2020, arXiv:2004.00010, proposition 12;
/// Balle et al. 2020, arXiv:1905.09982). It is 0 also when delta exceeds sqrt(1 - exp(-rdp)), which bounds the total
/// variation distance (Bretagnolle and Huber; the divergence of order 1 is at most rdp).
inline double rdp_to_epsilon(double order, double rdp, double delta) {
  if (delta * delta + std::expm1(-rdp) > 0) return 0;
  return std::max(0.0, rdp + std::log1p(-1 / order) - std::log(delta * order) / (order - 1));
}

} // namespace dpopt
