// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/noise/counter_gaussian.hpp"

#include "support/catch.hpp"
#include "support/recorded_stream.hpp"
#include "support/statistics.hpp"

#include <algorithm>
#include <limits>
#include <string>
#include <vector>

using dpopt::address;
using dpopt::counter_gaussian;
using dpopt::isize;
using dpopt::purpose;
using namespace dpopt::test;

namespace {

static_assert(!dpopt::NoiseMechanism<counter_gaussian, std::int64_t>); // no Gaussian on an integer grid
static_assert(!dpopt::NoiseMechanism<counter_gaussian, long double>);  // it has no stream of that width
static_assert(std::is_trivially_copyable_v<counter_gaussian>);         // crosses into kernels by value

counter_gaussian seeded(std::uint64_t seed, std::uint64_t incarnation = 0) {
  counter_gaussian out{.noise_multiplier = 1.0, .seed = seed, .incarnation = incarnation};
  out.draw_secret();
  return out;
}

template <class V>
std::vector<V> draw(const counter_gaussian& noise, const address& where, isize n, double std_in_units = 1) {
  std::vector<V> out(static_cast<std::size_t>(n));
  noise.add(where, std_in_units, out.data(), n);
  return out;
}

/// The numbers [first, first + n) drawn in calls of varying length.
template <class V>
std::vector<V> draw_in_pieces(const counter_gaussian& noise, address where, isize n) {
  std::vector<V> out(static_cast<std::size_t>(n));
  isize done = 0;
  for (isize length = 1; done < n; length = length * 3 % 257) {
    const isize now = std::min(length, n - done);
    noise.add(where, 1, out.data() + done, now);
    where.element += static_cast<std::uint64_t>(now);
    done += now;
  }
  return out;
}

TEMPLATE_TEST_CASE("an element's number does not depend on how the range is split", "", float, double) {
  const counter_gaussian noise = seeded(1);
  const auto whole = draw<TestType>(noise, {.step = 3, .parameter = 2}, 3000);
  CHECK(draw_in_pieces<TestType>(noise, {.step = 3, .parameter = 2}, 3000) == whole);
  for (const isize start : {1, 31, 32, 63, 64, 65, 127, 128, 129, 1000}) {
    const auto part =
        draw<TestType>(noise, {.step = 3, .parameter = 2, .element = static_cast<std::uint64_t>(start)}, 700);
    CHECK(std::equal(part.begin(), part.end(), whole.begin() + start));
  }
}

TEMPLATE_TEST_CASE("a range may cross a multiple of 2^32 blocks", "", float, double) {
  const counter_gaussian noise = seeded(2);
  const std::uint64_t crossing = (std::uint64_t{1} << 32) * (16 / sizeof(TestType));
  const address where{.element = crossing - 150};
  const auto whole = draw<TestType>(noise, where, 300);
  for (const isize k : {0, 149, 150, 151, 299})
    CHECK(draw<TestType>(noise, {.element = where.element + static_cast<std::uint64_t>(k)}, 1)[0] ==
          whole[static_cast<std::size_t>(k)]);
  CHECK(std::vector<TestType>(whole.begin() + 150, whole.end()) != draw<TestType>(noise, {}, 150)); // no wrap to 0
}

/// In two roundings, also where the processor could fuse them.
template <class V>
DPOPT_NO_CONTRACT V added(V x, V std, V normal) {
  DPOPT_NO_CONTRACT_BLOCK
  return x + std * normal;
}

TEMPLATE_TEST_CASE("add() adds std times the number and touches nothing else", "", float, double) {
  const counter_gaussian noise = seeded(3);
  const auto normal = draw<TestType>(noise, {}, 300);
  std::vector<TestType> x(302, TestType(7));
  noise.add({}, 2.5, x.data() + 1, 300);
  CHECK(x.front() == 7);
  CHECK(x.back() == 7);
  for (std::size_t i = 0; i < 300; ++i) REQUIRE(x[i + 1] == added(TestType(7), TestType(2.5), normal[i]));
  noise.add({}, 2.5, x.data(), 0);
  CHECK(x.front() == 7);
}

TEMPLATE_TEST_CASE("moments, tails and distribution are those of N(0, 1)", "", float, double) {
  const auto x = draw<TestType>(seeded(4), {}, 400000);
  for (int k = 1; k <= 4; ++k) CHECK(std::abs(moment_score(x, k)) < unlikely);
  for (const double limit : {1.0, 2.0, 3.0, 4.0}) CHECK(std::abs(tail_score(x, limit)) < unlikely);
  CHECK(normal_distance(x) < unlikely_distance);
}

TEMPLATE_TEST_CASE("numbers whose addresses differ in one field are uncorrelated, and so are their squares", "", float,
                   double) {
  constexpr isize n = 100000;
  const counter_gaussian noise = seeded(5);
  const auto x = draw<TestType>(noise, {.step = 8, .parameter = 4}, n);
  const auto independent = [&](const std::vector<TestType>& y) {
    REQUIRE(y != x);
    CHECK(std::abs(correlation_score(x, y)) < unlikely);
    CHECK(std::abs(correlation_score(x, y, true)) < unlikely);
  };
  SECTION("step") { independent(draw<TestType>(noise, {.step = 9, .parameter = 4}, n)); }
  SECTION("parameter") { independent(draw<TestType>(noise, {.step = 8, .parameter = 5}, n)); }
  SECTION("lane") { independent(draw<TestType>(noise, {.lane = 1, .step = 8, .parameter = 4}, n)); }
  SECTION("purpose") {
    independent(draw<TestType>(noise, {.what = purpose::side_scalars, .step = 8, .parameter = 4}, n));
  }
  SECTION("seed") { independent(draw<TestType>(seeded(6), {.step = 8, .parameter = 4}, n)); }
  SECTION("incarnation") { independent(draw<TestType>(seeded(5, 1), {.step = 8, .parameter = 4}, n)); }
  SECTION("element: neighbours, members of a pair, the next tile") {
    for (const std::uint64_t lag : {1u, 2u, 16u, 32u, 64u, 128u})
      independent(draw<TestType>(noise, {.step = 8, .parameter = 4, .element = lag}, n));
  }
}

TEST_CASE("float and double numbers of one address are different streams") {
  const auto narrow = draw<float>(seeded(7), {}, 100000);
  const auto wide = draw<double>(seeded(7), {}, 100000);
  CHECK(std::abs(correlation_score(std::vector<double>(narrow.begin(), narrow.end()), wide)) < unlikely);
}

TEST_CASE("a copy of the root's secret draws the root's numbers") {
  counter_gaussian root{.noise_multiplier = 1.0}; // no seed: the secret is the operating system's
  root.draw_secret();
  CHECK_FALSE(root.reproducible());
  counter_gaussian other{.noise_multiplier = 1.0};
  REQUIRE(other.secret().size() == root.secret().size());
  std::ranges::copy(root.secret(), other.secret().begin());
  CHECK(draw<double>(other, {}, 100) == draw<double>(root, {}, 100));
  counter_gaussian again = root;
  again.draw_secret();
  CHECK(draw<double>(again, {}, 100) != draw<double>(root, {}, 100)); // equal with probability 2^-64
}

TEST_CASE("a seed reproduces the noise and says so") {
  CHECK(seeded(8).reproducible());
  CHECK(draw<double>(seeded(8), {}, 100) == draw<double>(seeded(8), {}, 100));
}

TEST_CASE("without a secret there is an error and not predictable noise") {
  const counter_gaussian noise{.noise_multiplier = 1.0, .seed = 9};
  double x = 3;
  CHECK_THROWS_AS(noise.add({}, 1, &x, 1), dpopt::state_error);
  CHECK(x == 3);
}

TEMPLATE_TEST_CASE("a range that runs out of the stream is refused before anything is written", "", float, double) {
  const counter_gaussian noise = seeded(10);
  const std::uint64_t end = (std::uint64_t{1} << 36) * (16 / sizeof(TestType));
  std::vector<TestType> x(200, TestType(0));
  CHECK_NOTHROW(noise.add({.element = end - 200}, 1, x.data(), 200));
  x.assign(200, TestType(3));
  CHECK_THROWS_AS(noise.add({.element = end - 199}, 1, x.data(), 200), dpopt::randomness_error);
  CHECK_THROWS_AS(noise.add({.element = std::numeric_limits<std::uint64_t>::max()}, 1, x.data(), 200),
                  dpopt::randomness_error);
  CHECK_THROWS_AS(noise.add({.step = std::uint64_t{1} << 40}, 1, x.data(), 200), dpopt::randomness_error);
  CHECK(x == std::vector<TestType>(200, TestType(3)));
}

TEST_CASE("validate() refuses a multiplier that is missing, negative or not finite") {
  CHECK_NOTHROW(counter_gaussian{1.5}.validate());
  CHECK(counter_gaussian{1.5}.multiplier() == 1.5);
  CHECK_THROWS_AS(counter_gaussian{}.validate(), dpopt::invalid_argument);
  CHECK_THROWS_AS(counter_gaussian{-1.0}.validate(), dpopt::invalid_argument);
}

TEST_CASE("no text of the mechanism holds the seed") {
  const counter_gaussian noise{.noise_multiplier = -1.0, .seed = 123456789};
  CHECK(noise.describe().find("123456789") == std::string::npos);
  try {
    noise.validate();
    FAIL("a negative multiplier was accepted");
  } catch (const dpopt::error& e) {
    CHECK(std::string(e.what()).find("123456789") == std::string::npos);
  }
  try {
    seeded(123456789).add({.step = std::uint64_t{1} << 40}, 1, static_cast<double*>(nullptr), 1);
    FAIL("an exhausted stream was used");
  } catch (const dpopt::error& e) {
    CHECK(std::string(e.what()).find("123456789") == std::string::npos);
  }
}

TEST_CASE("the stream is the recorded one, bit for bit") {
  check_recorded_stream([](const counter_gaussian& noise, const address& where, auto type) {
    return draw<decltype(type)>(noise, where, 1)[0];
  });
}

} // namespace
