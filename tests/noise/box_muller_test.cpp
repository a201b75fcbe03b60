// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/noise/box_muller.hpp"

#include "support/catch.hpp"

#include <cmath>
#include <random>

using dpopt::detail::box_muller;

namespace {

constexpr long double two_pi = 6.283185307179586476925286766559L;

struct point {
  long double x, y;
};

point of(long double u, long double turn) {
  const long double r = std::sqrt(-2 * std::log(u));
  return {r * std::cos(two_pi * turn), r * std::sin(two_pi * turn)};
}

point in_double(std::uint32_t rh, std::uint32_t rl, std::uint32_t ah, std::uint32_t al) {
  std::array<double, 2> out;
  box_muller<1>({rh}, {rl}, {ah}, {al}, out.data());
  return {out[0], out[1]};
}

point in_float(std::uint32_t radius, std::uint32_t angle) {
  std::array<float, 2> out;
  box_muller<1>({radius}, {angle}, out.data());
  return {out[0], out[1]};
}

TEST_CASE("double pairs are Box and Muller's to 1e-13") {
  std::mt19937_64 engine(30);
  long double worst = 0;
  for (int i = 0; i < 100000; ++i) {
    const std::uint64_t radius = engine() >> (i % 3 == 0 ? engine() % 64 : 0);
    const std::uint64_t angle = engine();
    const point got = in_double(static_cast<std::uint32_t>(radius >> 32), static_cast<std::uint32_t>(radius),
                                static_cast<std::uint32_t>(angle >> 32), static_cast<std::uint32_t>(angle));
    const point right =
        of((static_cast<long double>(radius) + 0.5L) * 0x1p-64L, (static_cast<long double>(angle) + 0.5L) * 0x1p-64L);
    worst = std::max({worst, std::fabs(got.x - right.x), std::fabs(got.y - right.y)});
  }
  CHECK(worst < 2e-12L); // a radius near 0 carries the rounding of u to 53 bits
}

TEST_CASE("float pairs are Box and Muller's to 1e-5, but for coarse radii below 0.01") {
  std::mt19937_64 engine(31);
  long double worst = 0;
  for (int i = 0; i < 100000; ++i) {
    const auto radius = static_cast<std::uint32_t>(engine()) >> (i % 3 == 0 ? engine() % 32 : 0);
    const auto angle = static_cast<std::uint32_t>(engine());
    const long double u = (static_cast<long double>(radius) * 0x1p16L + (angle & 0xFFFF) + 0.5L) * 0x1p-48L;
    const point right = of(u, (static_cast<long double>(angle) + 0.5L) * 0x1p-32L);
    if (std::hypot(right.x, right.y) < 0.01L) continue;
    const point got = in_float(radius, angle);
    worst = std::max({worst, std::fabs(got.x - right.x), std::fabs(got.y - right.y)});
  }
  CHECK(worst < 1e-5L);
}

TEST_CASE("the tails reach 9.49 in double and 8.24 in float, and no words give an infinity") {
  CHECK(std::hypot(in_double(0, 0, 0, 0).x, in_double(0, 0, 0, 0).y) == Approx(std::sqrt(2 * 65 * std::log(2.0))));
  CHECK(std::hypot(in_float(0, 0).x, in_float(0, 0).y) == Approx(std::sqrt(2 * 49 * std::log(2.0))));
  constexpr std::uint32_t ones = 0xFFFFFFFF;
  CHECK(std::hypot(in_double(ones, ones, ones, ones).x, in_double(ones, ones, ones, ones).y) < 1e-7L);
  CHECK(std::hypot(in_float(ones, ones).x, in_float(ones, ones).y) < 1e-3L);
}

TEST_CASE("opposite angles give opposite points, so that the mean is exactly 0") {
  std::mt19937_64 engine(32);
  for (int i = 0; i < 1000; ++i) {
    const auto rh = static_cast<std::uint32_t>(engine());
    const auto ah = static_cast<std::uint32_t>(engine());
    const auto al = static_cast<std::uint32_t>(engine());
    const point here = in_double(rh, 5, ah, al);
    const point there = in_double(rh, 5, ah + 0x80000000u, al);
    REQUIRE(there.x == -here.x);
    REQUIRE(there.y == -here.y);
  }
}

} // namespace
