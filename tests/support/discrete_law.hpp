// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Laws on the integers by their weights, and how well a sample fits one: what exact samplers are tested against.
#pragma once

#include "support/statistics.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace dpopt::test {

/// A symmetric law: P(x) proportional to weight(|x|), with weights beyond the end negligible.
class discrete_law {
public:
  template <class F>
  discrete_law(int end, F weight) {
    long double all = 0;
    for (int x = 0; x < end; ++x) {
      weights_.push_back(weight(static_cast<long double>(x)));
      all += (x == 0 ? 1 : 2) * weights_.back();
    }
    for (long double& w : weights_) w /= all;
  }

  [[nodiscard]] static discrete_law gaussian(double sigma) {
    const long double s = sigma;
    return {static_cast<int>(60 * sigma) + 40, [s](long double x) { return std::exp(-x * x / (2 * s * s)); }};
  }
  [[nodiscard]] static discrete_law laplace(double scale) {
    const long double t = scale;
    return {static_cast<int>(60 * scale) + 40, [t](long double x) { return std::exp(-x / t); }};
  }

  [[nodiscard]] double probability(std::int64_t x) const {
    const auto at = static_cast<std::size_t>(x < 0 ? -x : x);
    return at < weights_.size() ? static_cast<double>(weights_[at]) : 0;
  }
  [[nodiscard]] double variance() const {
    long double sum = 0;
    for (std::size_t x = 1; x < weights_.size(); ++x) sum += 2 * weights_[x] * static_cast<long double>(x * x);
    return static_cast<double>(sum);
  }
  /// The least delta at epsilon when one unit of privacy moves the number by 1: sum of P(x) - e^epsilon P(x - 1) where
  /// positive.
  [[nodiscard]] double delta(double epsilon) const {
    const auto end = static_cast<std::int64_t>(weights_.size());
    long double sum = 0;
    for (std::int64_t x = -end; x <= end; ++x) {
      const long double excess = at(x) - std::exp(static_cast<long double>(epsilon)) * at(x + 1);
      if (excess > 0) sum += excess;
    }
    return static_cast<double>(sum);
  }
  [[nodiscard]] double epsilon(double delta_wanted) const {
    double low = 0, high = 400;
    while (high - low > 1e-10) (delta((low + high) / 2) > delta_wanted ? low : high) = (low + high) / 2;
    return high;
  }

private:
  [[nodiscard]] long double at(std::int64_t x) const {
    const auto k = static_cast<std::size_t>(x < 0 ? -x : x);
    return k < weights_.size() ? weights_[k] : 0;
  }
  std::vector<long double> weights_;
};

/// Chi-square of counts against expectations as a normal score (Wilson and Hilferty), good to 1e-3 from 5 cells on.
[[nodiscard]] inline double chi_square_score(const std::vector<double>& counts, const std::vector<double>& expected) {
  double chi_square = 0;
  for (std::size_t i = 0; i < counts.size(); ++i)
    chi_square += (counts[i] - expected[i]) * (counts[i] - expected[i]) / expected[i];
  const double freedom = static_cast<double>(counts.size()) - 1;
  const double spread = 2 / (9 * freedom);
  return (std::cbrt(chi_square / freedom) - (1 - spread)) / std::sqrt(spread);
}

/// How a sample of integers fits P(x) = probability(x), by chi-square: a cell for each x that is expected at least 50
/// times, one for all others below 0 and one for all others above.
template <class P>
[[nodiscard]] double fit_score(const std::vector<std::int64_t>& sample, P probability) {
  const double n = static_cast<double>(sample.size());
  std::int64_t last = 0;
  while (probability(last + 1) * n >= 50) ++last;
  const auto cells = static_cast<std::size_t>(2 * last + 3);
  std::vector<double> counts(cells), expected(cells);
  for (const std::int64_t x : sample) ++counts[static_cast<std::size_t>(std::clamp(x, -last - 1, last + 1) + last + 1)];
  double inside = 0;
  for (std::int64_t x = -last; x <= last; ++x) {
    expected[static_cast<std::size_t>(x + last + 1)] = n * probability(x);
    inside += probability(x);
  }
  expected.front() = expected.back() = n * (1 - inside) / 2;
  if (expected.front() >= 5) return chi_square_score(counts, expected);
  if (counts.front() + counts.back() > 60) return 1e9; // of at most 10 expected: has probability 1e-25
  return chi_square_score({counts.begin() + 1, counts.end() - 1}, {expected.begin() + 1, expected.end() - 1});
}

/// Score of a number of successes.
[[nodiscard]] inline double binomial_score(double successes, double trials, double probability) {
  return (successes - trials * probability) / std::sqrt(trials * probability * (1 - probability));
}

} // namespace dpopt::test
