// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/gradients/half.hpp"

#include "dpopt/gradients/linear_weight.hpp"
#include "dpopt/gradients/materialized.hpp"
#include "support/catch.hpp"
#include "support/random_numbers.hpp"
#include "support/source_conformance.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <map>
#include <vector>

using namespace dpopt;
using namespace dpopt::test;

namespace {

constexpr double infinite = std::numeric_limits<double>::infinity();

// What a pattern of sign, exponent and fraction means, by IEEE 754's definition.
double meaning(unsigned pattern, int exponent_bits) {
  const int fraction_bits = 15 - exponent_bits;
  const int bias = (1 << (exponent_bits - 1)) - 1;
  const int exponent = static_cast<int>(pattern >> fraction_bits) & ((1 << exponent_bits) - 1);
  const int fraction = static_cast<int>(pattern) & ((1 << fraction_bits) - 1);
  const double sign = (pattern & 0x8000u) != 0 ? -1 : 1;
  if (exponent == (1 << exponent_bits) - 1) return fraction == 0 ? sign * infinite : std::nan("");
  if (exponent == 0) return sign * std::ldexp(fraction, 1 - bias - fraction_bits);
  return sign * std::ldexp(fraction + (1 << fraction_bits), exponent - bias - fraction_bits);
}

template <class H>
constexpr int exponent_bits = 8;
template <>
constexpr int exponent_bits<float16> = 5;

template <class H>
std::uint16_t pattern_of(unsigned p) {
  return H::from_bits(static_cast<std::uint16_t>(p)).bits;
}

} // namespace

TEMPLATE_TEST_CASE("half: each of the 65536 patterns reads as IEEE 754 says, and comes back the same", "", bfloat16,
                   float16) {
  int wrong = 0;
  for (unsigned p = 0; p < 65536; ++p) {
    const auto h = TestType::from_bits(static_cast<std::uint16_t>(p));
    const double expected = meaning(p, exponent_bits<TestType>);
    const auto f = static_cast<float>(h);
    const auto d = static_cast<double>(h);
    if (std::isnan(expected)) {
      wrong += !(std::isnan(f) && std::isnan(d) && std::isnan(static_cast<double>(TestType(f))) &&
                 std::isnan(static_cast<double>(TestType(d))));
      continue;
    }
    wrong += !(static_cast<double>(f) == expected && d == expected && std::signbit(f) == std::signbit(expected));
    wrong += !(TestType(f).bits == p && TestType(d).bits == p && pattern_of<TestType>(p) == p);
  }
  CHECK(wrong == 0);
}

TEMPLATE_TEST_CASE("half: between any two neighbours the nearer is taken, and half way the even one", "", bfloat16,
                   float16) {
  const unsigned last = exponent_bits<TestType> == 8 ? 0x7f80 : 0x7c00; // infinity
  int wrong = 0;
  for (unsigned p = 0; p < last; ++p) {
    const double low = meaning(p, exponent_bits<TestType>);
    const double step = low - (p > 0 ? meaning(p - 1, exponent_bits<TestType>) : -meaning(1, exponent_bits<TestType>));
    const double middle = p + 1 < last ? (low + meaning(p + 1, exponent_bits<TestType>)) / 2 : low + step / 2;
    const unsigned even = p % 2 == 0 ? p : p + 1;
    for (const double sign : {1.0, -1.0}) {
      const unsigned bit = sign < 0 ? 0x8000u : 0u;
      const double tie = sign * middle;
      wrong += TestType(tie).bits != (even | bit);
      wrong += TestType(std::nextafter(tie, 0.0)).bits != (p | bit);
      wrong += TestType(std::nextafter(tie, sign * infinite)).bits != ((p + 1) | bit);
      const auto narrow = static_cast<float>(tie);
      if (static_cast<double>(narrow) != tie) continue; // half of the smallest bfloat16 is a float still, but no more
      wrong += TestType(narrow).bits != (even | bit);
      wrong += TestType(std::nextafter(narrow, 0.0F)).bits != (p | bit);
      wrong += TestType(std::nextafter(narrow, static_cast<float>(sign * infinite))).bits != ((p + 1) | bit);
    }
  }
  CHECK(wrong == 0);
}

TEST_CASE("half: a double is rounded once: not to float, and then again") {
  // Just above half way between 1 and the next bfloat16; the nearest float is half way, and would round down to even.
  const double just_above = 1 + 0x1p-8 + 0x1p-40;
  CHECK(bfloat16(just_above).bits == 0x3f81);
  CHECK(bfloat16(static_cast<float>(just_above)).bits == 0x3f80);
  CHECK(float16(1 + 0x1p-11 + 0x1p-40).bits == 0x3c01);
  CHECK(float16(1 + 0x1p-11 - 0x1p-40).bits == 0x3c00);
}

TEST_CASE("half: what is beyond the largest number is infinite, and what is below the smallest is zero") {
  CHECK(float16(65519.996F).bits == 0x7bff);
  CHECK(float16(65520.0F).bits == 0x7c00);
  CHECK(float16(-1e30F).bits == 0xfc00);
  CHECK(float16(1e300).bits == 0x7c00);
  CHECK(bfloat16(std::numeric_limits<float>::max()).bits == 0x7f80);
  CHECK(bfloat16(1e300).bits == 0x7f80);
  CHECK(float16(0x1p-25F).bits == 0);
  CHECK(float16(std::nextafter(0x1p-25F, 1.0F)).bits == 1);
  CHECK(float16(-1e-30F).bits == 0x8000);
  CHECK(bfloat16(1e-300).bits == 0);
}

TEMPLATE_TEST_CASE("half: sources of 16 bits are sources of the numbers that their bits mean", "", bfloat16, float16) {
  constexpr isize batch = 4;
  constexpr isize inputs = 9;
  constexpr isize outputs = 5;
  const std::vector<TestType> a = random_numbers<TestType>(batch * inputs, 1);
  const std::vector<TestType> e = random_numbers<TestType>(batch * outputs, 2);
  written_out rows(batch);
  written_out products(batch);
  for (std::size_t i = 0; i < batch; ++i) {
    for (std::size_t k = 0; k < inputs; ++k)
      rows[i].push_back(meaning(a[i * inputs + k].bits, exponent_bits<TestType>));
    for (std::size_t o = 0; o < outputs; ++o)
      for (std::size_t k = 0; k < inputs; ++k)
        products[i].push_back(meaning(e[i * outputs + o].bits, exponent_bits<TestType>) * rows[i][k]);
  }
  source_conforms(materialized<TestType>(a.data(), batch, inputs), rows);
  source_conforms(linear_weight<TestType>{a.data(), e.data(), batch, inputs, outputs}, products);
}

TEST_CASE("half types: a layer without inputs or outputs adds nothing") {
  for (const auto& [inputs, outputs] : {std::array<isize, 2>{0, 0}, {0, 3}, {3, 0}}) {
    const std::vector<bfloat16> x(6, bfloat16(1.0F));
    const std::vector<double> factors = {1, 0.5};
    workspace w;
    float out = 7;
    linear_weight<bfloat16>{x.data(), x.data(), 2, inputs, outputs}.add_weighted_sum({0, 2}, factors.data(), &out, w);
    CHECK(out == 7);
  }
}
