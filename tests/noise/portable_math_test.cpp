// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/noise/portable_math.hpp"

#include "support/catch.hpp"

#include <cmath>
#include <concepts>
#include <cstdint>
#include <limits>
#include <random>

using dpopt::detail::cos_octant;
using dpopt::detail::minus_four_log;
using dpopt::detail::sin_octant;
using dpopt::detail::sqrt_of_half;

namespace {

/// Largest error seen, in units in the last place of the right value.
template <class V>
struct worst {
  double ulps = 0;
  void see(V got, long double right) {
    const V near = static_cast<V>(std::fabs(right));
    const long double unit = static_cast<long double>(std::nextafter(near, std::numeric_limits<V>::max())) - near;
    ulps = std::max(ulps, static_cast<double>(std::fabs(static_cast<long double>(got) - right) / unit));
  }
};

/// -4 ln u of minus_four_log(), which takes a float in units of 2^-24.
template <class V>
V log_of(V u) {
  V t = std::same_as<V, float> ? u * V(0x1p24) : u;
  minus_four_log(t);
  return t;
}

/// sqrt(t / 2)
template <class V>
V root_of(V t) {
  sqrt_of_half(t);
  return t;
}

/// Numbers in (0, 1) whose exponents go down to 2^-64, and others that crowd below 1.
template <class V>
V next_uniform(std::mt19937_64& engine) {
  const double fraction = static_cast<double>(engine() >> 11) * 0x1p-53;
  const int power = static_cast<int>(engine() % 64);
  const bool below_one = engine() % 2 == 0;
  const V u = static_cast<V>(below_one ? 1 - std::ldexp(fraction, -power) : std::ldexp(1 - 0.5 * fraction, -power));
  return u < 1 ? u : std::nextafter(V(1), V(0));
}

TEMPLATE_TEST_CASE("the logarithm and the root are within 3 units in the last place", "", float, double) {
  std::mt19937_64 engine(20);
  worst<TestType> log;
  worst<TestType> root;
  for (int i = 0; i < 100000; ++i) {
    const auto u = next_uniform<TestType>(engine);
    const TestType t = log_of(u);
    log.see(t, -4 * std::log(static_cast<long double>(u)));
    root.see(root_of(t), std::sqrt(static_cast<long double>(t) / 2));
  }
  CHECK(log.ulps < 3);
  CHECK(root.ulps < 3);
}

TEMPLATE_TEST_CASE("sine and cosine of an octant are within 3 units in the last place", "", float, double) {
  std::mt19937_64 engine(21);
  const auto largest = static_cast<TestType>(0.78539816);
  worst<TestType> sine;
  worst<TestType> cosine;
  for (int i = 0; i < 100000; ++i) {
    const double in_unit = static_cast<double>(engine() >> 11) * 0x1p-52 - 1;
    const auto y = static_cast<TestType>(std::ldexp(in_unit, -static_cast<int>(engine() % 8 * 5))) * largest;
    TestType of_y = 0;
    sin_octant(y, of_y);
    sine.see(of_y, std::sin(static_cast<long double>(y)));
    cos_octant(y, of_y);
    cosine.see(of_y, std::cos(static_cast<long double>(y)));
  }
  CHECK(sine.ulps < 3);
  CHECK(cosine.ulps < 3);
}

TEMPLATE_TEST_CASE("the radius of u = 1 is exactly 0", "", float, double) {
  CHECK(log_of(TestType(1)) == 0);
  CHECK(root_of(log_of(TestType(1))) == 0);
}

} // namespace
