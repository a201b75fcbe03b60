// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/accounting/analytic_gaussian.hpp"

#include "dpopt/accounting/rdp_accountant.hpp"
#include "support/catch.hpp"

#include <algorithm>
#include <cmath>
#include <limits>

using namespace dpopt;

namespace {

// The definition: the integral of f(x) - e^epsilon f(x - 1), where positive, f the density of N(0, s^2), by Simpson's
// rule. It is positive from 1/2 - epsilon s^2 downwards.
double delta_by_definition(double epsilon, double s) {
  const long double end = 0.5L - static_cast<long double>(epsilon) * s * s;
  const long double begin = std::min(end, 0.0L) - 14 * static_cast<long double>(s);
  constexpr int pieces = 20000;
  const long double h = (end - begin) / pieces;
  long double sum = 0;
  for (int i = 0; i <= pieces; ++i) {
    const long double x = begin + h * i;
    const long double value =
        std::exp(-x * x / (2.0L * s * s)) - std::exp(epsilon - (x - 1) * (x - 1) / (2.0L * s * s));
    sum += value * (i == 0 || i == pieces ? 1 : i % 2 == 1 ? 4 : 2);
  }
  return static_cast<double>(sum * h / 3 / (s * 2.506628274631000502415765L));
}

} // namespace

TEST_CASE("delta agrees with its definition") {
  for (const double s : {0.3, 1.0, 2.5, 20.0})
    for (const double epsilon : {0.0, 0.1, 1.0, 4.0}) {
      INFO("s " << s << " epsilon " << epsilon);
      const double exact = delta_by_definition(epsilon, s);
      if (exact > 1e-30) CHECK(analytic_gaussian_delta(epsilon, s) == Approx(exact).epsilon(1e-9));
    }
}

TEST_CASE("epsilon and the multiplier invert delta, from above") {
  for (const double delta : {0.1, 1e-5, 1e-12})
    for (const double s : {0.05, 0.7, 1.0, 30.0}) {
      INFO("s " << s << " delta " << delta);
      const double epsilon = analytic_gaussian_epsilon(delta, s);
      CHECK(analytic_gaussian_delta(epsilon, s) <= delta);
      if (epsilon == 0) continue;
      CHECK(analytic_gaussian_delta(epsilon * (1 - 1e-12), s) > delta);
      const double multiplier = analytic_gaussian_multiplier(epsilon, delta);
      CHECK(multiplier == Approx(s).epsilon(1e-9));
      CHECK(analytic_gaussian_delta(epsilon, multiplier) <= delta);
    }
}

TEST_CASE("no accountant of Gaussian releases reports less") {
  for (const double s : {0.5, 2.0, 10.0})
    for (const std::uint64_t count : {1u, 30u}) {
      rdp_accountant accountant;
      accountant.record({.noise_multiplier = s, .count = count});
      CHECK(accountant.epsilon(1e-6) >= analytic_gaussian_epsilon(1e-6, s / std::sqrt(static_cast<double>(count))));
    }
}

TEST_CASE("extreme arguments neither overflow nor vanish") {
  CHECK(analytic_gaussian_epsilon(1e-5, 1e-3) == Approx(504264.0).epsilon(1e-5)); // near 1 / (2 s^2) + 4.26 / s
  CHECK(analytic_gaussian_epsilon(1e-300, 1.0) == Approx(37.449).epsilon(1e-4));  // 37.0 standard deviations out
  CHECK(analytic_gaussian_epsilon(0.999, 0.4) == 0);
  CHECK(analytic_gaussian_delta(1e6, 1.0) == 0);
  CHECK(std::isfinite(analytic_gaussian_multiplier(1e-9, 1e-9)));
}

TEST_CASE("arguments out of range are refused by name") {
  CHECK_THROWS_WITH(analytic_gaussian_delta(-1, 1), "epsilon is -1; use a finite number, 0 or more");
  CHECK_THROWS_WITH(analytic_gaussian_delta(1, 0), "noise_multiplier is 0; use a finite number above 0");
  CHECK_THROWS_WITH(analytic_gaussian_epsilon(1, 1), "delta is 1; use a number in (0, 1)");
  CHECK_THROWS_WITH(analytic_gaussian_multiplier(1, 0), "delta is 0; use a number in (0, 1)");
  CHECK_THROWS_AS(analytic_gaussian_multiplier(std::numeric_limits<double>::quiet_NaN(), 0.1), invalid_argument);
}
