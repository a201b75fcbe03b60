// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/core/portable_functions.hpp"

#include "support/catch.hpp"

#include <cmath>
#include <cstdint>
#include <limits>

using namespace dpopt;

namespace {
double relative(double got, long double want) {
  return static_cast<double>(std::abs(static_cast<long double>(got) - want) / std::abs(want));
}
} // namespace

TEST_CASE("the exponential is right to a few units in the last place") {
  double worst = 0;
  for (double x = -700; x < 709; x += 0.37)
    worst = std::fmax(worst, relative(portable_exp(x), std::exp(static_cast<long double>(x))));
  for (double x = 1e-18; x < 1; x *= 1.9) {
    worst = std::fmax(worst, relative(portable_exp(x), std::exp(static_cast<long double>(x))));
    worst = std::fmax(worst, relative(portable_exp(-x), std::exp(-static_cast<long double>(x))));
  }
  CHECK(worst < 1e-15);
  CHECK(portable_exp(0) == 1);
  CHECK(portable_exp(-740) == Approx(std::exp(-740.0)).margin(5e-324)); // a subnormal number
}

TEST_CASE("the exponential saturates instead of wrapping around") {
  constexpr double infinite = std::numeric_limits<double>::infinity();
  CHECK(portable_exp(1e5) == infinite);
  CHECK(portable_exp(infinite) == infinite);
  CHECK(portable_exp(-1e5) == 0);
  CHECK(portable_exp(-infinite) == 0);
  CHECK(std::isnan(portable_exp(std::numeric_limits<double>::quiet_NaN())));
}

TEST_CASE("half a period of the cosine is right, and exact at its ends") {
  double worst = 0;
  for (double x = 0; x <= 1; x += 1.0 / 1024) {
    const long double want = std::cos(3.14159265358979323846264338327950288L * static_cast<long double>(x));
    worst = std::fmax(worst, static_cast<double>(std::abs(static_cast<long double>(portable_cos_pi(x)) - want)));
  }
  CHECK(worst < 4e-16);
  CHECK(portable_cos_pi(0) == 1);
  CHECK(portable_cos_pi(1) == -1);
}

TEST_CASE("powers are products") {
  CHECK(portable_power(3, 0) == 1);
  CHECK(portable_power(3, 1) == 3);
  CHECK(portable_power(3, 5) == 243);
  CHECK(portable_power(2, 1000) == std::ldexp(1.0, 1000));
  CHECK(portable_power(0.5, 2000) == 0);
  CHECK(portable_power(1, ~std::uint64_t{0}) == 1);
  CHECK(relative(portable_power(0.9999, 100000), std::pow(static_cast<long double>(0.9999), 100000)) < 1e-10);
}

TEST_CASE("the bits are these, on every machine") {
  CHECK(portable_exp(0.1) == 0x1.1aec7b35a00d4p+0);
  CHECK(portable_exp(-3.7) == 0x1.9511fc6871044p-6);
  CHECK(portable_cos_pi(0.3) == 0x1.2cf2304755a5ep-1);
}
