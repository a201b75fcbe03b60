// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/sodium/secure_gaussian.hpp"

#include "support/catch.hpp"
#include "support/statistics.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

using dpopt::address;
using dpopt::isize;
using dpopt::purpose;
using dpopt::secure_gaussian;
using namespace dpopt::test;

namespace {

static_assert(!dpopt::NoiseMechanism<secure_gaussian, std::int64_t>); // no Gaussian on an integer grid

/// A mechanism under a key that tests know, given in the only way there is: as a rank that received it.
secure_gaussian keyed(int first_byte) {
  secure_gaussian out{.noise_multiplier = 1.0};
  int next = first_byte;
  for (std::byte& b : out.secret()) b = static_cast<std::byte>(next++);
  return out;
}

template <class V>
std::vector<V> draw(const secure_gaussian& noise, const address& where, isize n) {
  std::vector<V> out(static_cast<std::size_t>(n));
  noise.add(where, 1, out.data(), n);
  return out;
}

TEST_CASE("the same key draws the same numbers, another key others") {
  CHECK(draw<double>(keyed(1), {}, 100) == draw<double>(keyed(1), {}, 100));
  CHECK(draw<double>(keyed(1), {}, 100) != draw<double>(keyed(2), {}, 100));
  const secure_gaussian copy = keyed(1);
  CHECK(draw<double>(secure_gaussian(copy), {}, 100) == draw<double>(copy, {}, 100));
}

TEST_CASE("the root's key comes from the operating system, is shared by its bytes and never repeats") {
  secure_gaussian root{.noise_multiplier = 1.0};
  root.draw_secret();
  secure_gaussian other{.noise_multiplier = 1.0};
  REQUIRE(other.secret().size() == root.secret().size());
  std::ranges::copy(root.secret(), other.secret().begin());
  CHECK(draw<double>(other, {}, 100) == draw<double>(root, {}, 100));
  root.draw_secret();
  CHECK(draw<double>(other, {}, 100) != draw<double>(root, {}, 100)); // equal with probability 2^-256
  CHECK_FALSE(root.reproducible());
}

TEMPLATE_TEST_CASE("an element's number does not depend on how the range is split", "", float, double) {
  const secure_gaussian noise = keyed(3);
  const auto whole = draw<TestType>(noise, {.step = 3, .parameter = 2}, 500);
  for (const isize start : {1, 31, 32, 33, 100}) {
    const auto part =
        draw<TestType>(noise, {.step = 3, .parameter = 2, .element = static_cast<std::uint64_t>(start)}, 300);
    CHECK(std::equal(part.begin(), part.end(), whole.begin() + start));
  }
}

TEMPLATE_TEST_CASE("moments, tails and distribution are those of N(0, 1)", "", float, double) {
  const auto x = draw<TestType>(keyed(4), {}, 100000);
  for (int k = 1; k <= 4; ++k) CHECK(std::abs(moment_score(x, k)) < unlikely);
  for (const double limit : {1.0, 2.0, 3.0}) CHECK(std::abs(tail_score(x, limit)) < unlikely);
  CHECK(normal_distance(x) < unlikely_distance);
}

TEST_CASE("numbers whose addresses differ in one field are uncorrelated, and so are their squares") {
  constexpr isize n = 50000;
  const secure_gaussian noise = keyed(5);
  const auto x = draw<double>(noise, {.step = 8, .parameter = 4}, n);
  const address others[] = {{.step = 9, .parameter = 4},
                            {.step = 8, .parameter = 5},
                            {.lane = 1, .step = 8, .parameter = 4},
                            {.what = purpose::side_scalars, .step = 8, .parameter = 4},
                            {.step = 8, .parameter = 4, .element = 1}};
  for (const address& where : others) {
    const auto y = draw<double>(noise, where, n);
    REQUIRE(y != x);
    CHECK(std::abs(correlation_score(x, y)) < unlikely);
    CHECK(std::abs(correlation_score(x, y, true)) < unlikely);
  }
}

TEST_CASE("a number is half the sum of 4 Gaussians of its own block, and the first block is discarded") {
  const secure_gaussian noise = keyed(6);
  const address where{.lane = 2, .step = 7, .parameter = 1};
  const auto x = draw<double>(noise, where, 3);
  const auto nonce = dpopt::chacha_stream::nonce_of(where);
  for (std::uint64_t element = 0; element < 3; ++element) {
    std::array<unsigned char, 64> block{};
    crypto_stream_xchacha20_xor_ic(block.data(), block.data(), block.size(), nonce.data(), element + 1,
                                   noise.key_.data());
    std::array<std::uint32_t, 16> word;
    std::memcpy(word.data(), block.data(), block.size());
    double sum = 0;
    for (std::size_t term = 0; term < 4; ++term) {
      const double u = word[4 * term] * 0x1p-32 + (word[4 * term + 1] + 0.5) * 0x1p-64;
      const double turn = word[4 * term + 2] * 0x1p-32 + (word[4 * term + 3] + 0.5) * 0x1p-64;
      sum += std::sqrt(-2 * std::log(u)) * std::cos(2 * std::acos(-1.0) * turn);
    }
    CHECK(x[element] == Approx(sum / 2).margin(1e-12));
  }
}

TEST_CASE("add() adds std times the number and touches nothing else") {
  const secure_gaussian noise = keyed(7);
  const auto normal = draw<double>(noise, {}, 40);
  std::vector<double> x(42, 7.0);
  noise.add({}, 2.5, x.data() + 1, 40);
  CHECK(x.front() == 7);
  CHECK(x.back() == 7);
  for (std::size_t i = 0; i < 40; ++i) REQUIRE(x[i + 1] == 7 + 2.5 * normal[i]);
}

TEST_CASE("no key, no block: an error, and nothing is written") {
  std::vector<double> x(2, 3.0);
  CHECK_THROWS_AS(secure_gaussian{.noise_multiplier = 1.0}.add({}, 1, x.data(), 2), dpopt::state_error);
  const address last{.element = std::numeric_limits<std::uint64_t>::max() - 1};
  CHECK_THROWS_AS(keyed(8).add(last, 1, x.data(), 2), dpopt::randomness_error);
  CHECK(x == std::vector<double>(2, 3.0));
}

TEST_CASE("validate() refuses a multiplier that is missing, negative or not finite") {
  CHECK_NOTHROW(secure_gaussian{1.5}.validate());
  CHECK(secure_gaussian{1.5}.multiplier() == 1.5);
  CHECK_THROWS_AS(secure_gaussian{}.validate(), dpopt::invalid_argument);
  CHECK_THROWS_AS(secure_gaussian{-1.0}.validate(), dpopt::invalid_argument);
}

} // namespace
