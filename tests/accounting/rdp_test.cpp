// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/accounting/rdp.hpp"
#include "support/catch.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <vector>

using namespace dpopt;

namespace {

// Reference: the definition, integrated by Simpson's rule in long double. P is N(0, sigma^2), Q the mixture
// (1 - q) N(0, sigma^2) + q N(1, sigma^2). Gives log E_P (Q/P)^a / (a - 1), or the other direction.
long double divergence(long double a, long double q, long double sigma, bool mixture_first) {
  const long double from = -14 * sigma, to = a + 14 * sigma;
  const int pieces = 40000;
  const long double h = (to - from) / pieces;
  long double sum = 0;
  for (int i = 0; i <= pieces; ++i) {
    const long double z = from + h * i;
    const long double log_ratio = std::log1p(q * std::expm1((2 * z - 1) / (2 * sigma * sigma)));
    const long double log_p = -z * z / (2 * sigma * sigma);
    const long double power = mixture_first ? a * log_ratio : (1 - a) * log_ratio;
    sum += std::exp(log_p + power) * (i == 0 || i == pieces ? 1 : i % 2 == 1 ? 4 : 2);
  }
  const long double root_two_pi = 2.506628274631000502415765L;
  return std::log(sum * h / 3 / (sigma * root_two_pi)) / (a - 1);
}

} // namespace

TEST_CASE("the divergence agrees with its definition at integer and fractional orders") {
  for (const double sigma : {0.6, 1.0, 2.5}) {
    for (const double q : {0.02, 0.3, 0.9}) {
      for (const double order : {1.1, 1.5, 2.0, 2.5, 3.0, 5.7, 9.0}) {
        INFO("sigma " << sigma << " q " << q << " order " << order);
        const auto exact = static_cast<double>(divergence(order, q, sigma, true));
        // The reference itself loses digits when the divergence is small: 1e-18 in its integral.
        CHECK(std::abs(subsampled_gaussian_rdp(order, q, sigma) - exact) <= 1e-11 * exact + 1e-16 / (order - 1));
      }
    }
  }
}

TEST_CASE("the direction that is computed is the worse one") {
  for (const double sigma : {0.6, 1.0, 2.5}) {
    for (const double q : {0.02, 0.3, 0.9}) {
      for (const double order : {1.1, 2.0, 4.5}) {
        INFO("sigma " << sigma << " q " << q << " order " << order);
        const auto other = static_cast<double>(divergence(order, q, sigma, false));
        CHECK(subsampled_gaussian_rdp(order, q, sigma) >= other);
      }
    }
  }
}

TEST_CASE("closed sum and quadrature, which share no formula, agree at integer orders") {
  for (const double sigma : {0.1, 0.5, 1.0, 7.0, 300.0}) {
    for (const double q : {1e-9, 1e-4, 0.1, 0.5, 1 - 1e-9}) {
      for (const double order : {2.0, 3.0, 10.0, 40.0}) {
        INFO("sigma " << sigma << " q " << q << " order " << order);
        const double sum = detail::log_excess_integer_order(order, q, sigma);
        const double integral = detail::log_excess_by_quadrature(order, q, sigma);
        CHECK(std::abs(sum - integral) <= 2e-11 * std::max(1.0, std::abs(sum)));
      }
    }
  }
}

TEST_CASE("a tiny sampling rate keeps every digit: order q^2 (exp(1/sigma^2) - 1) / 2") {
  // The next term is of relative order q exp(2 / sigma^2).
  for (const double order : {1.001, 1.25, 2.0, 3.5, 8.0}) {
    for (const double sigma : {0.8, 1.0, 4.0}) {
      const double q = 1e-12;
      const double leading = order * q * q * std::expm1(1 / (sigma * sigma)) / 2;
      INFO("order " << order << " sigma " << sigma);
      CHECK(subsampled_gaussian_rdp(order, q, sigma) == Approx(leading).epsilon(1e-9));
    }
  }
}

TEST_CASE("without sampling it is the Gaussian mechanism, and sampling never costs more") {
  for (const double order : {1.05, 2.0, 7.5, 300.0}) {
    for (const double sigma : {0.02, 0.5, 1.0, 30.0}) {
      const double full = order / (2 * sigma * sigma);
      CHECK(subsampled_gaussian_rdp(order, 1, sigma) == Approx(full).epsilon(1e-15));
      CHECK(subsampled_gaussian_rdp(order, 1 - 1e-12, sigma) == Approx(full).epsilon(1e-8));
      CHECK(subsampled_gaussian_rdp(order, 0.5, sigma) <= full);
    }
  }
}

TEST_CASE("the divergence grows with order and rate and falls with noise") {
  const std::vector<double> orders{1.01, 1.3, 2, 2.2, 3, 5.5, 6, 40, 40.5};
  const std::vector<double> rates{1e-6, 1e-3, 0.01, 0.2, 0.7, 1};
  const std::vector<double> sigmas{0.05, 0.3, 0.9, 1, 2, 20};
  for (const double sigma : sigmas) {
    for (const double q : rates) {
      for (std::size_t i = 1; i < orders.size(); ++i) {
        INFO("sigma " << sigma << " q " << q << " order " << orders[i]);
        CHECK(subsampled_gaussian_rdp(orders[i - 1], q, sigma) < subsampled_gaussian_rdp(orders[i], q, sigma));
      }
    }
  }
  for (const double order : orders) {
    for (std::size_t i = 1; i < rates.size(); ++i) {
      INFO("order " << order << " rate " << rates[i]);
      CHECK(subsampled_gaussian_rdp(order, rates[i - 1], 1.1) < subsampled_gaussian_rdp(order, rates[i], 1.1));
    }
    for (std::size_t i = 1; i < sigmas.size(); ++i) {
      INFO("order " << order << " sigma " << sigmas[i]);
      CHECK(subsampled_gaussian_rdp(order, 0.1, sigmas[i - 1]) > subsampled_gaussian_rdp(order, 0.1, sigmas[i]));
    }
  }
}

TEST_CASE("extreme arguments stay finite and positive, and no noise is an infinite divergence") {
  for (const double order : {1.0001, 2.0, 10.5, 1000.5}) {
    for (const double q : {1e-300, 1e-20, 0.5, 1 - 1e-16}) {
      for (const double sigma : {1e-6, 1e-3, 0.01, 1e4}) {
        INFO("order " << order << " q " << q << " sigma " << sigma);
        const double rdp = subsampled_gaussian_rdp(order, q, sigma);
        CHECK(std::isfinite(rdp));
        CHECK(rdp >= 0);
      }
    }
  }
  CHECK(std::isinf(subsampled_gaussian_rdp(2, 0.1, 0)));
  CHECK(std::isinf(subsampled_gaussian_rdp(2.5, 1, 0)));
}

TEST_CASE("the bound between integer orders is above the quadrature") {
  for (const double order : {1.3, 2.5, 6.9}) {
    for (const double q : {0.001, 0.4}) {
      for (const double sigma : {0.3, 1.0}) {
        const double bound = detail::log_moment_by_convexity(order, q, sigma);
        const double exact = detail::log1p_exp(detail::log_excess_by_quadrature(order, q, sigma));
        INFO("order " << order << " q " << q << " sigma " << sigma);
        CHECK(bound >= exact);
        CHECK(bound <= std::max(1.0, order - 1) * 2 / (2 * sigma * sigma) * order); // not vacuous
      }
    }
  }
  // Below the switch to this bound the result is still under the Gaussian's without sampling.
  CHECK(detail::quadrature_points(3.5, 0.01) > 32768);
  CHECK(subsampled_gaussian_rdp(3.5, 0.01, 0.01) <= gaussian_rdp(3.5, 0.01));
}

TEST_CASE("replace_one gets no amplification") {
  const gaussian_event sampled{.noise_multiplier = 1.5, .sampling_rate = 0.01, .relation = neighbouring::replace_one};
  const gaussian_event added{.noise_multiplier = 1.5, .sampling_rate = 0.01};
  for (const double order : {1.5, 2.0, 8.0}) {
    CHECK(rdp_of_one(sampled, order) == order / 1.5 / 1.5 / 2);
    CHECK(rdp_of_one(added, order) == subsampled_gaussian_rdp(order, 0.01, 1.5));
    CHECK(rdp_of_one(added, order) < rdp_of_one(sampled, order));
  }
}

TEST_CASE("a unit zeroed out costs what one removed costs, sampling included") {
  // The empty unit adds nothing whether it is drawn or not: the pair of distributions is the same.
  const gaussian_event zeroed{.noise_multiplier = 1.5, .sampling_rate = 0.01, .relation = neighbouring::zero_out};
  const gaussian_event removed{.noise_multiplier = 1.5, .sampling_rate = 0.01};
  for (const double order : {1.5, 2.0, 8.0}) CHECK(rdp_of_one(zeroed, order) == rdp_of_one(removed, order));
}

TEST_CASE("conversion is Canonne, Kamath and Steinke's, and 0 when delta covers the total variation") {
  CHECK(rdp_to_epsilon(4, 0.5, 1e-5) == Approx(0.5 + std::log(0.75) - std::log(4e-5) / 3).epsilon(1e-14));
  CHECK(rdp_to_epsilon(1.5, 0.25, 1e-6) == Approx(0.25 + std::log(1.0 / 3) - std::log(1.5e-6) / 0.5).epsilon(1e-14));
  CHECK(rdp_to_epsilon(3, 0, 1e-5) == 0);
  CHECK(rdp_to_epsilon(3, 0.99e-10, 1e-5) == 0); // 1 - exp(-rdp) is just under delta^2
  CHECK(rdp_to_epsilon(3, 1.01e-10, 1e-5) > 0);
  CHECK(rdp_to_epsilon(100, 1e-3, 0.5) == 0); // the formula is negative
  CHECK(std::isinf(rdp_to_epsilon(3, INFINITY, 1e-5)));
}

TEST_CASE("an argument outside its range is named") {
  CHECK_THROWS_WITH(subsampled_gaussian_rdp(1, 0.1, 1), "order is 1; use a finite number above 1");
  CHECK_THROWS_WITH(subsampled_gaussian_rdp(INFINITY, 0.1, 1), "order is inf; use a finite number above 1");
  CHECK_THROWS_WITH(subsampled_gaussian_rdp(NAN, 0.1, 1), "order is nan; use a finite number above 1");
  CHECK_THROWS_WITH(subsampled_gaussian_rdp(2, 0, 1), "sampling_rate is 0; use a number in (0, 1]");
  CHECK_THROWS_WITH(subsampled_gaussian_rdp(2, 1.5, 1), "sampling_rate is 1.5; use a number in (0, 1]");
  CHECK_THROWS_WITH(subsampled_gaussian_rdp(2, 0.1, -1), "noise_multiplier is -1; use a finite number, 0 or more");
  CHECK_THROWS_AS(subsampled_gaussian_rdp(2, 0.1, NAN), invalid_argument);
}
