// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Coefficients that minimize error x sensitivity^2 of prefix sums for a plan: what a strategy costs at given privacy.
///
/// A search costs up to seconds for tens of thousands of releases, and its last bits depend on the compiler: run it
/// once, and give all ranks the same numbers (they compare them). Any outcome is private: the sensitivity is computed
/// from the coefficients that are used, so that a bad optimum costs accuracy only.
#pragma once

#include "dpopt/core/error.hpp"
#include "dpopt/core/types.hpp"
#include "dpopt/noise/blt_parameters.hpp"
#include "dpopt/noise/run_plan.hpp"
#include "dpopt/noise/toeplitz.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

namespace dpopt {

/// Which squared error of the prefix sums counts.
enum class prefix_error {
  mean, ///< over the releases
  max,  ///< of the last, which is the largest
};

/// error x sensitivity^2 of the strategy with first column c and inverse w, both continued by zeros.
[[nodiscard]] inline double strategy_loss(std::span<const double> c, std::span<const double> w, const run_plan& plan,
                                          prefix_error kind) {
  const auto errors = prefix_squared_errors(w, static_cast<isize>(plan.releases));
  const double error = kind == prefix_error::max
                           ? errors.back()
                           : std::accumulate(errors.begin(), errors.end(), 0.0) / static_cast<double>(errors.size());
  const double sensitivity = toeplitz_sensitivity(c, plan);
  return error * sensitivity * sensitivity;
}

namespace detail {

/// Local minimum of f near x by BFGS (Nocedal and Wright, Numerical Optimization, 2006, algorithm 6.1) with central
/// differences and backtracking; f may be infinite or NaN outside its domain. Never worse than the start.
template <class F>
std::vector<double> minimize(F&& f, std::vector<double> x) {
  const std::size_t n = x.size();
  const auto gradient = [&](std::vector<double> at) {
    std::vector<double> out(n);
    for (std::size_t i = 0; i < n; ++i) {
      const double centre = at[i];
      const double h = 1e-6 * std::max(1.0, std::abs(centre)); // near the cube root of a double's precision
      at[i] = centre + h;
      const double above = f(at);
      at[i] = centre - h;
      out[i] = (above - f(at)) / (2 * h);
      at[i] = centre;
    }
    return out;
  };
  const auto dot = [](const std::vector<double>& a, const std::vector<double>& b) {
    return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
  };
  std::vector<std::vector<double>> inverse_hessian(n, std::vector<double>(n));
  const auto reset = [&](double scale) {
    for (std::size_t i = 0; i < n; ++i)
      for (std::size_t j = 0; j < n; ++j) inverse_hessian[i][j] = i == j ? scale : 0;
  };
  double value = f(x);
  std::vector<double> g = gradient(x);
  reset(1 / std::max(1.0, std::sqrt(dot(g, g))));
  bool fresh = true; // the Hessian knows nothing yet
  for (int turn = 0; turn < 500; ++turn) {
    std::vector<double> direction(n);
    for (std::size_t i = 0; i < n; ++i) direction[i] = -dot(inverse_hessian[i], g);
    const double slope = dot(direction, g);
    std::vector<double> next(n);
    double next_value = value;
    double length = 1;
    bool lower = false;
    for (int halving = 0; halving < 40 && slope < 0 && !lower; ++halving, length /= 2) {
      for (std::size_t i = 0; i < n; ++i) next[i] = x[i] + length * direction[i];
      next_value = f(next);
      lower = next_value <= value + 1e-4 * length * slope; // false for NaN
    }
    if (!lower) {
      if (fresh) break;
      reset(1 / std::max(1.0, std::sqrt(dot(g, g))));
      fresh = true;
      continue;
    }
    std::vector<double> next_g = gradient(next);
    std::vector<double> s(n);
    std::vector<double> y(n);
    for (std::size_t i = 0; i < n; ++i) s[i] = next[i] - x[i], y[i] = next_g[i] - g[i];
    const double curvature = dot(s, y);
    if (curvature > 1e-14 * std::sqrt(dot(s, s) * dot(y, y))) {
      if (fresh) reset(curvature / dot(y, y));
      std::vector<double> hy(n);
      for (std::size_t i = 0; i < n; ++i) hy[i] = dot(inverse_hessian[i], y);
      const double yhy = dot(y, hy);
      for (std::size_t i = 0; i < n; ++i)
        for (std::size_t j = 0; j < n; ++j)
          inverse_hessian[i][j] +=
              (1 + yhy / curvature) * s[i] * s[j] / curvature - (hy[i] * s[j] + s[i] * hy[j]) / curvature;
      fresh = false;
    }
    const bool settled = value - next_value <= 1e-12 * std::abs(value);
    x = std::move(next);
    g = std::move(next_g);
    value = next_value;
    if (settled) break;
  }
  return x;
}

} // namespace detail

/// Coefficients for banded() with the least loss, of norm 1. Starts from the square root. O(releases x bands^2) a turn.
/// @param bands 1 to 512 and at most the releases; with bands <= separation participations do not matter.
[[nodiscard]] inline std::vector<double> optimal_banded(const run_plan& plan, isize bands,
                                                        prefix_error kind = prefix_error::mean) {
  plan.validate();
  if (bands < 1 || bands > 512) throw invalid_argument(message("optimal_banded: bands is ", bands, "; give 1 to 512"));
  bands = std::min(bands, static_cast<isize>(plan.releases));
  const auto whole = [](const std::vector<double>& rest) { // the first is 1: only the shape counts
    std::vector<double> c(1, 1.0);
    c.insert(c.end(), rest.begin(), rest.end());
    return c;
  };
  std::vector<double> start = square_root_coefficients(bands);
  start.erase(start.begin());
  std::vector<double> best = whole(detail::minimize(
      [&](const std::vector<double>& rest) {
        const std::vector<double> c = whole(rest);
        return std::log(strategy_loss(c, inverse_coefficients(c, static_cast<isize>(plan.releases)), plan, kind));
      },
      std::move(start)));
  const double norm = std::sqrt(std::inner_product(best.begin(), best.end(), best.begin(), 0.0));
  for (double& c : best) c /= norm;
  return best;
}

/// Parameters for blt() with the least loss, all scales above 0 and decays in (0, 1). O(releases x buffers^2) a turn.
/// @param buffers 1 to 8.
[[nodiscard]] inline blt_parameters optimal_blt(const run_plan& plan, isize buffers,
                                                prefix_error kind = prefix_error::max) {
  plan.validate();
  if (buffers < 1 || buffers > 8) throw invalid_argument(message("optimal_blt: buffers is ", buffers, "; give 1 to 8"));
  const double horizon = 1 - 1 / (static_cast<double>(plan.releases) + 1); // slower decays are not seen
  const blt_parameters start = square_root_blt(buffers, horizon);
  const auto parameters = [&](const std::vector<double>& x) {
    blt_parameters p;
    for (std::size_t j = 0; j < static_cast<std::size_t>(buffers); ++j) {
      p.decay.push_back(1 / (1 + std::exp(-x[2 * j])));
      p.scale.push_back(std::exp(x[2 * j + 1]));
    }
    return p;
  };
  std::vector<double> x;
  for (std::size_t j = 0; j < static_cast<std::size_t>(buffers); ++j) {
    x.push_back(std::log(start.decay[j] / (1 - start.decay[j])));
    x.push_back(std::log(start.scale[j]));
  }
  const auto n = static_cast<isize>(plan.releases);
  return parameters(detail::minimize(
      [&](const std::vector<double>& at) {
        const blt_parameters p = parameters(at);
        return std::log(strategy_loss(blt_coefficients(p, n), blt_inverse_coefficients(p, n), plan, kind));
      },
      std::move(x)));
}

} // namespace dpopt
