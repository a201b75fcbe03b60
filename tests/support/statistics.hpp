// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Statistics of samples that should be N(0, 1), each as a z-score or a scaled distance with a known tail.
///
/// Significance: a right generator exceeds `unlikely` = 5 standard errors with probability 5.7e-7 a check (the
/// statistics are means of many terms, hence nearly normal), and KS distances beyond `unlikely_distance` = 2.7 /
/// sqrt(n) with 9.3e-7. Seeds are fixed, so that a test either always passes or always fails.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

namespace dpopt::test {

inline constexpr double unlikely = 5;
inline constexpr double unlikely_distance = 2.7;

/// P(N(0, 1) < x).
[[nodiscard]] inline double normal_cdf(double x) { return 0.5 * std::erfc(-x / std::sqrt(2.0)); }

/// Z-score of the sample's moment k in 1..4 about 0, whose expectation is 0, 1, 0, 3 and variance 1, 2, 15, 96.
template <class V>
[[nodiscard]] double moment_score(const std::vector<V>& x, int k) {
  constexpr double expected[] = {1, 0, 1, 0, 3};
  constexpr double variance[] = {0, 1, 2, 15, 96};
  double sum = 0;
  for (const V v : x) sum += std::pow(static_cast<double>(v), k) - expected[k];
  return sum / std::sqrt(static_cast<double>(x.size()) * variance[k]);
}

/// Z-score of the number of |x| beyond `limit`, which is nearly Poisson (binomial with a small rate).
template <class V>
[[nodiscard]] double tail_score(const std::vector<V>& x, double limit) {
  const double rate = 2 * normal_cdf(-limit);
  const double expected = rate * static_cast<double>(x.size());
  const auto beyond = std::count_if(x.begin(), x.end(), [&](V v) { return std::abs(static_cast<double>(v)) > limit; });
  return (static_cast<double>(beyond) - expected) / std::sqrt(expected * (1 - rate));
}

/// Z-score of the correlation of x[i] with y[i], or of their squares, which sees a radius in common.
template <class V>
[[nodiscard]] double correlation_score(const std::vector<V>& x, const std::vector<V>& y, bool squares = false) {
  double sum = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const auto a = static_cast<double>(x[i]);
    const auto b = static_cast<double>(y[i]);
    sum += squares ? (a * a - 1) * (b * b - 1) / 2 : a * b;
  }
  return sum / std::sqrt(static_cast<double>(x.size()));
}

/// Kolmogorov and Smirnov: largest distance between the sample's distribution and N(0, 1), times sqrt(n).
template <class V>
[[nodiscard]] double normal_distance(std::vector<V> x) {
  std::sort(x.begin(), x.end());
  const auto n = static_cast<double>(x.size());
  double largest = 0;
  for (std::size_t i = 0; i < x.size(); ++i) {
    const double p = normal_cdf(static_cast<double>(x[i]));
    largest =
        std::max({largest, std::abs(p - static_cast<double>(i) / n), std::abs(p - static_cast<double>(i + 1) / n)});
  }
  return largest * std::sqrt(n);
}

} // namespace dpopt::test
