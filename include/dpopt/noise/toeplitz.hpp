// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Lower triangular Toeplitz matrices by their first column: the strategies of correlated noise, their inverses, their
/// sensitivity and what they leave of noise in prefix sums.
///
/// A strategy C stands for noise x = C^-1 z with z independent: the releases g_t + x_t reveal no more than C g + z. So
/// privacy is a matter of C (its sensitivity), accuracy one of its inverse. Only the shape of C counts: twice C has
/// twice the sensitivity and half the noise.
#pragma once

#include "dpopt/core/error.hpp"
#include "dpopt/core/platform.hpp"
#include "dpopt/core/types.hpp"
#include "dpopt/noise/run_plan.hpp"

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string_view>
#include <vector>

namespace dpopt {

/// The square root of the prefix sum matrix (Fichtenberger, Henzinger and Upadhyay 2022, arXiv:2202.11205):
/// 1, 1/2, 3/8, ... c_k = c_{k-1} (2 k - 1) / (2 k). Best for one participation; its first b for b bands.
[[nodiscard]] inline std::vector<double> square_root_coefficients(isize count) {
  std::vector<double> c(static_cast<std::size_t>(std::max<isize>(count, 0)), 1.0);
  for (std::size_t k = 1; k < c.size(); ++k)
    c[k] = c[k - 1] * (2 * static_cast<double>(k) - 1) / (2 * static_cast<double>(k));
  return c;
}

/// Its inverse: 1, -1/2, -1/8, -1/16, ... w_k = w_{k-1} (2 k - 3) / (2 k). The first b are the banded inverse square
/// root (Kalinin, McKenna, Upadhyay and Lampert 2025, arXiv:2505.12128).
[[nodiscard]] inline std::vector<double> inverse_square_root_coefficients(isize count) {
  std::vector<double> w(static_cast<std::size_t>(std::max<isize>(count, 0)), 1.0);
  for (std::size_t k = 1; k < w.size(); ++k)
    w[k] = w[k - 1] * (2 * static_cast<double>(k) - 3) / (2 * static_cast<double>(k));
  return w;
}

/// First `count` coefficients of the inverse; c is continued by zeros. O(count x c.size()). c[0] is not 0.
[[nodiscard]] DPOPT_NO_CONTRACT inline std::vector<double> inverse_coefficients(std::span<const double> c,
                                                                                isize count) {
  DPOPT_NO_CONTRACT_BLOCK
  std::vector<double> w(static_cast<std::size_t>(std::max<isize>(count, 0)));
  for (std::size_t t = 0; t < w.size(); ++t) {
    double sum = t == 0 ? 1 : 0;
    for (std::size_t k = 1; k < c.size() && k <= t; ++k) sum -= c[k] * w[t - k];
    w[t] = sum / c[0];
  }
  return w;
}

/// Squared error of each prefix sum g_0 + ... + g_t when z has variance 1 and w = C^-1: the sum over s <= t of
/// (w_0 + ... + w_s)^2. w is continued by zeros. The largest is the last.
[[nodiscard]] inline std::vector<double> prefix_squared_errors(std::span<const double> w, isize count) {
  std::vector<double> out(static_cast<std::size_t>(std::max<isize>(count, 0)));
  double prefix = 0;
  double sum = 0;
  for (std::size_t t = 0; t < out.size(); ++t) {
    if (t < w.size()) prefix += w[t];
    out[t] = sum += prefix * prefix;
  }
  return out;
}

/// Largest L2 distance of C g between data sets that differ in one record of norm 1 a release, over what the plan lets
/// it take part in; c is continued by zeros. Rounded up.
///
/// Exact for one participation (norm of the first column), for a cyclic plan with c >= 0 (the first record of the
/// period is the worst, as all later ones see the same column cut off), and for a separation with c >= 0 and not
/// increasing (Kalinin and Lampert 2024, arXiv:2405.13763, theorem 2: participations as early and as close as allowed).
/// Otherwise an upper bound: the same for |c|, raised to the least sequence that does not increase.
[[nodiscard]] DPOPT_NO_CONTRACT inline double toeplitz_sensitivity(std::span<const double> c, const run_plan& plan) {
  DPOPT_NO_CONTRACT_BLOCK
  const std::size_t n = plan.releases;
  const std::uint64_t times = plan.most_participations();
  std::vector<double> column(n, 0.0);
  for (std::size_t t = 0; t < std::min(n, c.size()); ++t) column[t] = std::abs(c[t]);
  if (times > 1 && !plan.same_place)
    for (std::size_t t = n - 1; t > 0; --t) column[t - 1] = std::max(column[t - 1], column[t]);
  double squares = 0;
  if (times == 1) {
    for (const double x : column) squares += x * x;
  } else {
    const std::size_t b = plan.separation; // < n, as there is a second participation
    std::vector<double> sum = column;      // of the rows t, t - b, t - 2 b, ...
    for (std::size_t t = b; t < n; ++t) sum[t] += sum[t - b];
    for (std::size_t t = 0; t < n; ++t) {
      const double all = times * b <= t ? sum[t] - sum[t - times * b] : sum[t]; // times x b < 2 n
      squares += all * all;
    }
  }
  constexpr double ulp = std::numeric_limits<double>::epsilon();
  return std::sqrt(squares) * (1 + (4 * static_cast<double>(n) + 16) * ulp); // sums of at most n terms, twice
}

namespace detail {
/// The numbers as a strategy that computes in State uses them: what is accounted for has to be the same.
template <std::floating_point State>
[[nodiscard]] std::vector<double> as_used_in(std::vector<double> numbers) {
  for (double& x : numbers) x = static_cast<double>(static_cast<State>(x));
  return numbers;
}

/// @throw invalid_argument unless the coefficients are finite and the first is above 0.
inline void require_coefficients(std::string_view strategy, std::span<const double> c) {
  if (c.empty())
    throw invalid_argument(message(strategy, ": there are no coefficients; give the first column of the matrix"));
  for (std::size_t k = 0; k < c.size(); ++k)
    if (!std::isfinite(c[k]))
      throw invalid_argument(message(strategy, ": coefficient ", k, " is ", c[k], "; give finite numbers"));
  if (!(c[0] > 0))
    throw invalid_argument(message(strategy, ": coefficient 0 is ", c[0], "; the diagonal must be above 0"));
}
} // namespace detail

} // namespace dpopt
