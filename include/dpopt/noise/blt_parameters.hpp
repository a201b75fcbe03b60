// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Buffered linear Toeplitz matrices (BLT; Dvijotham, McMahan, Pillutla, Steinke and Thakurta 2024, arXiv:2404.16706):
/// coefficients that are a sum of geometric sequences, c_0 = 1, c_t = sum_j scale_j decay_j^(t-1).
///
/// The inverse is one too, so that both are products of the past with as many numbers as there are buffers.
#pragma once

#include "dpopt/core/error.hpp"
#include "dpopt/core/platform.hpp"
#include "dpopt/core/types.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <functional>
#include <numbers>
#include <vector>

namespace dpopt {

struct blt_parameters {
  std::vector<double> decay; ///< one a buffer, distinct, in (-1, 1]
  std::vector<double> scale; ///< as many; all of one sign

  /// @throw invalid_argument naming what is wrong.
  void validate() const {
    if (decay.size() != scale.size())
      throw invalid_argument(
          message("blt_parameters: ", decay.size(), " decays but ", scale.size(), " scales; give one each a buffer"));
    for (std::size_t j = 0; j < decay.size(); ++j) {
      if (!(decay[j] > -1 && decay[j] <= 1))
        throw invalid_argument(message("blt_parameters: decay ", j, " is ", decay[j], "; give a number in (-1, 1]"));
      if (!std::isfinite(scale[j]) || scale[j] == 0 || (scale[j] > 0) != (scale[0] > 0))
        throw invalid_argument(
            message("blt_parameters: scale ", j, " is ", scale[j], "; give numbers of one sign, none 0"));
      for (std::size_t i = 0; i < j; ++i)
        if (decay[i] == decay[j])
          throw invalid_argument(message("blt_parameters: decays ", i, " and ", j, " are equal; merge the buffers"));
    }
  }
};

/// First `count` coefficients of the matrix.
[[nodiscard]] DPOPT_NO_CONTRACT inline std::vector<double> blt_coefficients(const blt_parameters& p, isize count) {
  DPOPT_NO_CONTRACT_BLOCK
  std::vector<double> c(static_cast<std::size_t>(std::max<isize>(count, 0)), 1.0);
  std::vector<double> buffer = p.scale;
  for (std::size_t t = 1; t < c.size(); ++t) {
    c[t] = 0;
    for (std::size_t j = 0; j < buffer.size(); ++j) {
      c[t] += buffer[j];
      buffer[j] *= p.decay[j];
    }
  }
  return c;
}

/// First `count` coefficients of its inverse, O(count x buffers), by the recursion that the mechanism uses.
[[nodiscard]] inline std::vector<double> blt_inverse_coefficients(const blt_parameters& p, isize count) {
  std::vector<double> w(static_cast<std::size_t>(std::max<isize>(count, 0)));
  std::vector<double> buffer(p.decay.size(), 0.0);
  for (std::size_t t = 0; t < w.size(); ++t) {
    w[t] = t == 0 ? 1 : 0;
    for (std::size_t j = 0; j < buffer.size(); ++j) w[t] -= p.scale[j] * buffer[j];
    for (std::size_t j = 0; j < buffer.size(); ++j) buffer[j] = p.decay[j] * buffer[j] + w[t];
  }
  return w;
}

/// The inverse as a BLT, decays falling. With r(x) = 1 + sum_j s_j x / (1 - d_j x) the generating function of the
/// coefficients, its decays are the roots l of sum_j s_j / (d_j - l) = 1, one in each gap between the d and one beyond
/// them (below for s > 0, above for s < 0), and its scales -1 / sum_j s_j / (l - d_j)^2.
/// @throw invalid_argument As validate() of the parameters.
[[nodiscard]] DPOPT_NO_CONTRACT inline blt_parameters inverse(const blt_parameters& p) {
  DPOPT_NO_CONTRACT_BLOCK
  p.validate();
  if (p.decay.empty()) return {};
  const bool positive = p.scale[0] > 0;
  std::vector<double> pole = p.decay;
  std::sort(pole.begin(), pole.end(), std::greater<>());
  double reach = 1;
  for (const double s : p.scale) reach += std::abs(s);
  if (positive) pole.push_back(pole.back() - reach); // beyond it the sum is below 1
  else pole.insert(pole.begin(), pole.front() + reach);

  blt_parameters out;
  for (std::size_t gap = 0; gap + 1 < pole.size(); ++gap) {
    double high = pole[gap];
    double low = pole[gap + 1];
    for (double middle = low + (high - low) / 2; low < middle && middle < high; middle = low + (high - low) / 2) {
      double sum = 0;
      for (std::size_t j = 0; j < p.decay.size(); ++j) sum += p.scale[j] / (p.decay[j] - middle);
      ((sum < 1) == positive ? low : high) = middle; // the sum grows in the gap for s > 0 and falls for s < 0
    }
    double slope = 0;
    for (std::size_t j = 0; j < p.decay.size(); ++j) slope += p.scale[j] / (low - p.decay[j]) / (low - p.decay[j]);
    out.decay.push_back(low);
    out.scale.push_back(-1 / slope);
  }
  return out;
}

/// The BLT nearest to the square root of the prefix sum matrix by the rational approximation of sqrt(1 - x) of the
/// paper (proposition 4.5), its decays scaled so that the largest is at most `greatest_decay`. A good start for
/// optimal_blt(), which fits a number of releases and is better.
/// @param buffers 1 to 12 (beyond, decays can no longer be told from 1).
[[nodiscard]] inline blt_parameters square_root_blt(isize buffers, double greatest_decay = 0.999999) {
  if (buffers < 1 || buffers > 12)
    throw invalid_argument(message("square_root_blt: buffers is ", buffers, "; give 1 to 12"));
  if (!(greatest_decay > 0 && greatest_decay <= 1))
    throw invalid_argument(message("square_root_blt: greatest_decay is ", greatest_decay, "; give a number in (0, 1]"));
  const isize upper = (buffers + 1) / 2;
  const double stride =
      1.6 * std::numbers::pi / std::sqrt(2 * (static_cast<double>(upper) + 1)); // 1.6: resolution of the grid
  blt_parameters noising;
  double constant = 0;
  for (isize k = -upper; k < buffers - upper; ++k) { // one place towards 1 from the symmetric choice
    const double h = stride * static_cast<double>(k);
    const double decay = 1 / (1 + std::exp(2 * h));
    noising.decay.push_back(decay);
    noising.scale.push_back(-decay * decay * std::exp(3 * h));
    constant += std::exp(h) * decay;
  }
  for (double& s : noising.scale) s /= constant;
  blt_parameters out = inverse(noising);
  const double shrink = std::min(1.0, greatest_decay / out.decay.front());
  for (double& d : out.decay) d *= shrink;
  return out;
}

} // namespace dpopt
