// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/noise/sequential_gaussian.hpp"

#include "support/catch.hpp"
#include "support/statistics.hpp"

#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

using dpopt::isize;
using dpopt::sequential_gaussian;
using dpopt::detail::uniform_bits;
using namespace dpopt::test;

namespace {

static_assert(!dpopt::AddressableNoise<sequential_gaussian<std::mt19937>>); // two ranks cannot draw the same number
static_assert(!dpopt::SharesSecret<sequential_gaussian<std::mt19937>>);     // the generator is the user's
static_assert(!dpopt::NoiseMechanism<sequential_gaussian<std::mt19937>, std::int64_t>);

template <class V, class Noise>
std::vector<V> draw(Noise& noise, isize n) {
  std::vector<V> out(static_cast<std::size_t>(n));
  noise.add({}, 1, out.data(), n);
  return out;
}

/// Counts up, in a range of 10 outputs that starts at 3: 3 bits a draw, and two outputs in ten are refused.
struct ten_outputs {
  using result_type = std::uint32_t;
  static constexpr result_type min() { return 3; }
  static constexpr result_type max() { return 12; }
  result_type operator()() { return 3 + next++ % 10; }
  result_type next = 0;
};

TEMPLATE_TEST_CASE("moments, tails and distribution are those of N(0, 1) with any generator", "", std::mt19937_64,
                   std::mt19937, std::minstd_rand, std::ranlux48) {
  sequential_gaussian noise(1.0, TestType(11));
  const auto x = draw<double>(noise, 100000);
  for (int k = 1; k <= 4; ++k) CHECK(std::abs(moment_score(x, k)) < unlikely);
  for (const double limit : {1.0, 2.0, 3.0}) CHECK(std::abs(tail_score(x, limit)) < unlikely);
  CHECK(normal_distance(x) < unlikely_distance);
  const std::vector<double> first(x.begin(), x.end() - 1);
  const std::vector<double> second(x.begin() + 1, x.end());
  CHECK(std::abs(correlation_score(first, second)) < unlikely);
  CHECK(std::abs(correlation_score(first, second, true)) < unlikely);
}

TEST_CASE("numbers are Box and Muller's of the generator's outputs, and nothing else is drawn from") {
  std::mt19937_64 outputs(12);
  sequential_gaussian noise(1.0, outputs);
  for (int pair = 0; pair < 100; ++pair) {
    const double u = (static_cast<double>(outputs()) + 0.5) * 0x1p-64;
    const double turn = (static_cast<double>(outputs()) + 0.5) * 0x1p-64;
    const auto x = draw<double>(noise, 2);
    const double radius = std::sqrt(-2 * std::log(u));
    CHECK(x[0] == Approx(radius * std::cos(2 * std::acos(-1.0) * turn)).margin(1e-12));
    CHECK(x[1] == Approx(radius * std::sin(2 * std::acos(-1.0) * turn)).margin(1e-12));
  }
}

TEST_CASE("the numbers depend on the order of calls and not on their lengths, types or addresses") {
  sequential_gaussian whole(1.0, std::mt19937_64(13));
  sequential_gaussian pieces(1.0, std::mt19937_64(13));
  const auto right = draw<double>(whole, 60);
  std::vector<double> got(60);
  pieces.add({.step = 5, .element = 9}, 1, got.data(), 7);
  pieces.add({}, 1, got.data() + 7, 0);
  pieces.add({}, 1, got.data() + 7, 1);
  pieces.add({.lane = 2}, 1, got.data() + 8, 51);
  float last = 0;
  pieces.add({}, 1, &last, 1);
  got[59] = right[59];
  CHECK(got == right);
  CHECK(last == static_cast<float>(right[59]));
}

TEST_CASE("add() adds std times the number") {
  sequential_gaussian one(1.0, std::mt19937_64(14));
  sequential_gaussian other(1.0, std::mt19937_64(14));
  const auto normal = draw<double>(one, 10);
  std::vector<double> x(10, 100.0);
  other.add({}, 4.0, x.data(), 10);
  for (std::size_t i = 0; i < 10; ++i) CHECK(x[i] == 100 + 4 * normal[i]);
}

TEST_CASE("bits are taken from any range without bias") {
  ten_outputs counting;
  // Outputs 0..7 give three bits each, 8 and 9 are refused: 0 1 2 3 4 5 6 7 over and over, 22 draws of 3 bits.
  std::uint64_t right = 0;
  for (std::uint64_t i = 0; i < 22; ++i) right = (right << 3) | (i % 8);
  CHECK(uniform_bits(counting) == right);

  std::mt19937_64 wide(15);
  std::mt19937_64 same(15);
  CHECK(uniform_bits(wide) == same());

  std::mt19937 narrow(16);
  std::mt19937 halves(16);
  const std::uint64_t high = halves();
  CHECK(uniform_bits(narrow) == ((high << 32) | halves()));
}

TEST_CASE("the multiplier is checked, and a user's generator makes a run reproducible") {
  const sequential_gaussian noise(1.5, std::mt19937_64(17));
  CHECK_NOTHROW(noise.validate());
  CHECK(noise.multiplier() == 1.5);
  CHECK(noise.reproducible());
  CHECK_THROWS_AS(sequential_gaussian(-1.0, std::mt19937_64(17)).validate(), dpopt::invalid_argument);
}

} // namespace
