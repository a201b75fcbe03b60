// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The matrices of a correlated mechanism as it really runs, and its sensitivity by trying everything a plan allows.
#pragma once

#include "dpopt/core/types.hpp"
#include "dpopt/noise/correlated.hpp"
#include "dpopt/noise/noise_mechanism.hpp"
#include "dpopt/noise/run_plan.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <utility>
#include <vector>

namespace dpopt::test {

using matrix = std::vector<std::vector<double>>; // rows

/// "Noise" that is its std at one step of the stream and 0 at all others.
struct impulse_noise {
  using role = roles::noise;
  static constexpr bool addressable = true;
  std::uint64_t at = 0;

  [[nodiscard]] double multiplier() const { return 1; }
  void validate() const {}
  template <std::floating_point V>
  void add(const address& where, double std_in_units, V* x, isize count) const {
    if (where.step == at)
      for (isize i = 0; i < count; ++i) x[i] += static_cast<V>(std_in_units);
  }
};

/// C^-1 of the first plan.releases rows, on numbers of type V: column s is what the mechanism makes of a z that is 1 in
/// row s.
template <class V = double, class Strategy>
matrix realized_inverse(const Strategy& strategy, const run_plan& plan) {
  const std::size_t n = plan.releases;
  matrix out(n, std::vector<double>(n));
  for (std::size_t s = 0; s < n; ++s) {
    correlated noise(impulse_noise{s}, strategy, plan);
    noise.validate();
    noise.bind(std::array<isize, 1>{1}, 0);
    for (std::size_t t = 0; t < n; ++t) {
      noise.start_row(t);
      V x = 0;
      noise.add({.step = t}, 1.0, &x, 1);
      out[t][s] = static_cast<double>(x);
    }
  }
  return out;
}

/// Inverse of a lower triangular matrix.
inline matrix inverse_of(const matrix& m) {
  matrix out(m.size(), std::vector<double>(m.size()));
  for (std::size_t s = 0; s < m.size(); ++s)
    for (std::size_t t = s; t < m.size(); ++t) {
      double sum = t == s ? 1 : 0;
      for (std::size_t k = s; k < t; ++k) sum -= m[t][k] * out[k][s];
      out[t][s] = sum / m[t][t];
    }
  return out;
}

inline matrix toeplitz_matrix(const std::vector<double>& c, std::size_t n) {
  matrix out(n, std::vector<double>(n));
  for (std::size_t t = 0; t < n; ++t)
    for (std::size_t s = 0; s <= t; ++s) out[t][s] = t - s < c.size() ? c[t - s] : 0;
  return out;
}

inline double largest_difference(const matrix& a, const matrix& b) {
  double worst = a.size() == b.size() ? 0 : HUGE_VAL;
  for (std::size_t t = 0; t < std::min(a.size(), b.size()); ++t)
    for (std::size_t s = 0; s < a.size(); ++s) worst = std::max(worst, std::abs(a[t][s] - b[t][s]));
  return worst;
}

/// Largest |C u| over u in {-1, 0, 1}^n whose support the plan allows: a record of norm 1 that turns its gradient
/// around as it likes. Exact for C >= 0, else a lower bound of the sensitivity.
inline double tried_sensitivity(const matrix& c, const run_plan& plan) {
  const std::size_t n = c.size();
  double best = 0;
  const auto extend = [&](auto&& self, const std::vector<double>& sum, std::size_t first, std::size_t last,
                          std::uint64_t left) -> void {
    double squares = 0;
    for (const double x : sum) squares += x * x;
    best = std::max(best, squares);
    if (left == 0) return;
    for (std::size_t s = first; s < n; ++s) {
      if (last < n && plan.same_place && (s - last) % plan.separation != 0) continue;
      for (const double sign : {1.0, -1.0}) {
        std::vector<double> next = sum;
        for (std::size_t t = 0; t < n; ++t) next[t] += sign * c[t][s];
        self(self, next, s + plan.separation, s, left - 1);
      }
    }
  };
  extend(extend, std::vector<double>(n), 0, n, plan.participations);
  return std::sqrt(best);
}

/// Plans of up to n releases of every kind.
inline std::vector<run_plan> small_plans(std::uint64_t n) {
  return {
      run_plan::once(n),         run_plan::separated(n, 1, 2), run_plan::separated(n, 2), run_plan::separated(n, 3, 2),
      run_plan::separated(n, 3), run_plan::separated(n, 4, 2), run_plan::cyclic(n, 2),    run_plan::cyclic(n, 3),
      run_plan::cyclic(n, 4),    run_plan::separated(n, n)};
}

} // namespace dpopt::test
