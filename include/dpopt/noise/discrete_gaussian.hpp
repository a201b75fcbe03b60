// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The discrete Gaussian, exactly: P(x) proportional to exp(-x^2 / (2 sigma^2)) for every integer x, by rejection from
/// discrete_laplace (Canonne, Kamath and Steinke 2020, arXiv:2004.00010, algorithm 3). Integer arithmetic only.
///
/// sigma is m 2^(k - 23) with integers m and k, so sigma^2 is rational and nothing is rounded while drawing. Proposals
/// of scale t = 2^k are accepted with probability exp(-(|y| - sigma^2 / t)^2 / (2 sigma^2)), which holds for every t >
/// 0; the paper takes t = floor(sigma) + 1, we the power of two that accepts most: sigma / t in [0.6875, 1.375], where
/// 67 to 76 % are accepted (46 % for tiny sigma). With N / D = | |y| / sigma - sigma / t | = j + p, j an integer and p
/// < 1,
///
///     exp(-(j + p)^2 / 2) = exp(-1 / 2)^(j^2) exp(-p)^j exp(-p^2 / 2),
///
/// each factor a coin of its own, so that no number needs more than 64 bits.
///
/// The variance is at most sigma^2 (corollary 9), and less than 1e-8 of it below when sigma >= 1.1. The time that a
/// draw takes depends on its value, as for every rejection sampler: who can time single draws learns something about
/// them.
#pragma once

#include "dpopt/core/error.hpp"
#include "dpopt/noise/discrete_laplace.hpp"
#include "dpopt/noise/exact_coin.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>

namespace dpopt {

/// The distribution with one sigma. A plain value.
class discrete_gaussian {
public:
  static constexpr double largest_std = 0x1p46; ///< in units of the grid

  /// A sigma of our form above std, never less noise than was accounted for: by at least 2^-24 of it, which covers what
  /// rounding took from std on its way here, and at most 2^-21 (for std below 0.68 by at most 2^-22 in all).
  /// @param std in units of the grid. @throw invalid_argument unless 0 < std <= largest_std.
  [[nodiscard]] static discrete_gaussian at_least(double std) {
    if (!(std > 0 && std <= largest_std))
      throw invalid_argument(message("discrete_gaussian: the standard deviation is ", std,
                                     " grid units; use more than 0 and at "
                                     "most ",
                                     largest_std, ": fewer fraction_bits or a smaller noise multiplier"));
    int exponent = 0;
    const double fraction = std::frexp(std, &exponent); // in [1/2, 1)
    const int k = std::max(0, fraction < 0.6875 ? exponent - 1 : exponent);
    return {static_cast<std::uint64_t>(std::ldexp(std, bits - k)) + 2, k};
  }

  /// Exact.
  [[nodiscard]] double sigma() const noexcept { return std::ldexp(static_cast<double>(m_), k_ - bits); }

  /// One number. @throw randomness_error as discrete_laplace.
  template <WordSource S>
  [[nodiscard]] std::int64_t draw(exact_coin<S>& coin) const {
    for (;;) {
      const std::int64_t y = discrete_laplace(coin, k_);
      if (accepted(coin, static_cast<std::uint64_t>(y < 0 ? -y : y))) return y;
    }
  }

private:
  static constexpr int bits = 23; // m < 2^24: D < 2^47 is what a coin can take
  static_assert(2 * bits == discrete_laplace_limits::log2_scale);

  discrete_gaussian(std::uint64_t m, int k) : m_(m), k_(k) {}

  template <WordSource S>
  [[nodiscard]] bool accepted(exact_coin<S>& coin, std::uint64_t size) const {
    const std::uint64_t left = size << (2 * bits - k_); // 2^46 |y| / t, below 2^62
    const std::uint64_t right = m_ * m_;                // 2^46 sigma^2 / t^2
    const std::uint64_t d = m_ << bits;                 // 2^46 sigma / t
    const std::uint64_t n = left > right ? left - right : right - left;
    const std::uint64_t j = n / d;
    const std::uint64_t p = n % d;
    for (std::uint64_t i = 0; i < j; ++i) {
      if (!coin.exp_minus(p, d)) return false;
      for (std::uint64_t h = 0; h < j; ++h)
        if (!coin.exp_minus(1, 2)) return false;
    }
    return coin.exp_minus_half_square(p, d);
  }

  std::uint64_t m_;
  int k_;
};

} // namespace dpopt
