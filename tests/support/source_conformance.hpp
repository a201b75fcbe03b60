// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// What PerSampleGradients promises, checked against the per-sample gradients written out in full.
#pragma once

#include "dpopt/gradients/per_sample_gradients.hpp"
#include "support/catch.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

namespace dpopt::test {

/// One row a sample.
using written_out = std::vector<std::vector<long double>>;

template <class V>
[[nodiscard]] long double norm_of(const std::vector<V>& x) {
  long double squares = 0;
  for (const V v : x) squares += static_cast<long double>(v) * static_cast<long double>(v);
  return std::sqrt(squares);
}

template <class S>
[[nodiscard]] std::vector<double> squared_norms_of(const S& s) {
  workspace w;
  std::vector<double> out(static_cast<std::size_t>(s.batch()), 0.0);
  s.add_squared_norms({0, s.batch()}, out.data(), w);
  return out;
}

template <class Out, class S>
[[nodiscard]] std::vector<Out> sum_of(const S& s, const std::vector<double>& factors) {
  workspace w;
  std::vector<Out> out(static_cast<std::size_t>(s.size()), Out(0));
  s.add_weighted_sum({0, s.batch()}, factors.data(), out.data(), w);
  return out;
}

/// Sums in Out. Data must be finite. `tolerance` is of Out, relative to the sum of magnitudes.
template <class Out, class S>
void sums_conform(const S& s, const written_out& rows, double tolerance) {
  const auto n = static_cast<std::size_t>(s.size());
  std::vector<double> factors(rows.size());
  for (std::size_t i = 0; i < rows.size(); ++i) factors[i] = i % 3 == 2 ? 0.0 : 1.0 / static_cast<double>(1 + i);
  const std::vector<Out> sum = sum_of<Out>(s, factors);
  for (std::size_t k = 0; k < n; ++k) {
    long double exact = 0;
    long double magnitude = 0;
    for (std::size_t i = 0; i < rows.size(); ++i) {
      exact += factors[i] * rows[i][k];
      magnitude += std::abs(factors[i] * rows[i][k]);
    }
    if (!(std::abs(static_cast<long double>(sum[k]) - exact) <= tolerance * magnitude))
      CHECK(sum[k] == Approx(static_cast<double>(exact)));
  }
  // Each sample alone adds no more than its norm says, rounding included.
  const std::vector<double> squares = squared_norms_of(s);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    std::vector<double> only(rows.size(), 0.0);
    only[i] = 1;
    CHECK(norm_of(sum_of<Out>(s, only)) <= static_cast<long double>(std::sqrt(squares[i])));
    if (squares[i] > 0) {
      only[i] = 0.5 / std::sqrt(squares[i]);
      CHECK(norm_of(sum_of<Out>(s, only)) <= 0.5L);
      CHECK(norm_of(sum_of<Out>(s, only)) >= 0.49999L);
    }
  }
  // Ranges give the bits of one question.
  for (const isize step : {1, 2, 5}) {
    workspace w;
    std::vector<Out> parts(n, Out(0));
    std::vector<double> norms(rows.size(), 0.0);
    for (isize first = 0; first < s.batch(); first += step) {
      const samples range{first, std::min(step, s.batch() - first)};
      s.add_squared_norms(range, norms.data() + first, w);
      s.add_weighted_sum(range, factors.data() + first, parts.data(), w);
    }
    CHECK(parts == sum);
    CHECK(norms == squares);
  }
}

/// Everything, for a source whose gradients are `rows` to within `rounding` of their magnitude.
template <class S>
void source_conforms(const S& s, const written_out& rows, double rounding = 1e-14) {
  REQUIRE(s.batch() == static_cast<isize>(rows.size()));
  CHECK(s.block() >= 1);
  const std::vector<double> squares = squared_norms_of(s);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    REQUIRE(s.size() == static_cast<isize>(rows[i].size()));
    const long double exact = norm_of(rows[i]) * norm_of(rows[i]);
    CHECK(static_cast<long double>(squares[i]) >= exact * (1 - rounding));
    CHECK(static_cast<long double>(squares[i]) <= exact * (1 + 1e-6L) + std::numeric_limits<double>::min());
  }
  sums_conform<double>(s, rows, 2e-14);
  sums_conform<float>(s, rows, 2e-6);
  if constexpr (SampleAccess<S>)
    for (std::size_t i = 0; i < rows.size(); ++i)
      for (const isize first : {isize{0}, s.size() / 3, s.size() - 1}) {
        if (first < 0) continue;
        std::vector<double> part(static_cast<std::size_t>(s.size() - first));
        s.copy_sample(static_cast<isize>(i), first, s.size() - first, -0.25, part.data());
        for (std::size_t k = 0; k < part.size(); ++k) {
          const auto expected = static_cast<double>(-0.25L * rows[i][k + static_cast<std::size_t>(first)]);
          if (!(std::abs(part[k] - expected) <= rounding * std::abs(expected))) CHECK(part[k] == Approx(expected));
        }
      }
}

} // namespace dpopt::test
