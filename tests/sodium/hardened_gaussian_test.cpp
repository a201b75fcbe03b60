// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// Statistics: two-sided significance 5.7e-7 a check (5 standard errors), fixed keys.
#include "dpopt/sodium/hardened_gaussian.hpp"

#include "dpopt/sodium/secure_gaussian.hpp"
#include "support/catch.hpp"
#include "support/discrete_law.hpp"
#include "support/forked.hpp"
#include "support/no_entropy.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <limits>
#include <new>
#include <string>
#include <vector>

using dpopt::address;
using dpopt::hardened_gaussian;
using dpopt::isize;
using dpopt::purpose;
using namespace dpopt::test;

namespace {

static_assert(!dpopt::NoiseMechanism<hardened_gaussian, std::int32_t>);
static_assert(dpopt::DiscreteNoise<hardened_gaussian> && !dpopt::DiscreteNoise<dpopt::secure_gaussian>);

/// A mechanism under a key that tests know, given in the only way there is: as a rank that received it.
hardened_gaussian keyed(int first_byte) {
  hardened_gaussian out{.noise_multiplier = 1.0};
  int next = first_byte;
  for (std::byte& b : out.secret()) b = static_cast<std::byte>(next++);
  return out;
}

std::vector<std::int64_t> draw(const hardened_gaussian& noise, const address& where, isize n, double std = 0x1p36) {
  std::vector<std::int64_t> out(static_cast<std::size_t>(n));
  noise.add(where, std, out.data(), n);
  return out;
}

std::vector<double> scaled(const std::vector<std::int64_t>& x, double std) {
  std::vector<double> out;
  for (const std::int64_t v : x) out.push_back(static_cast<double>(v) / std);
  return out;
}

/// The words of the cipher's stream at one block, taken from libsodium directly.
struct stream_words {
  using result_type = std::uint64_t;
  static constexpr result_type min() { return 0; }
  static constexpr result_type max() { return std::numeric_limits<result_type>::max(); }

  std::vector<unsigned char> bytes;
  std::size_t at = 0;

  stream_words(const hardened_gaussian& noise, dpopt::chacha_stream::nonce nonce, std::uint64_t block) : bytes(16384) {
    crypto_stream_xchacha20_xor_ic(bytes.data(), bytes.data(), bytes.size(), nonce.data(), block, noise.key_.data());
  }
  std::uint64_t operator()() {
    std::uint64_t word = 0;
    std::memcpy(&word, &bytes.at(at), sizeof word);
    at += sizeof word;
    return word;
  }
};

} // namespace

TEST_CASE("the numbers are the discrete Gaussian's, drawn from the cipher's stream at the group's first block") {
  const hardened_gaussian noise = keyed(1);
  const address where{.what = purpose::gradient, .lane = 3, .step = 7, .parameter = 2};
  for (const double std : {1.7, 0x1.3p36}) {
    const auto x = draw(noise, where, 200, std);
    for (std::uint64_t group = 0; group < 3; ++group) {
      dpopt::chacha_stream::nonce nonce = dpopt::chacha_stream::nonce_of(where);
      nonce[23] = 1;
      stream_words words(noise, nonce, group << 20);
      dpopt::exact_coin coin(words);
      const auto distribution = dpopt::discrete_gaussian::at_least(std);
      for (std::size_t i = 0; i < 64; ++i) REQUIRE(x[group * 64 + i] == distribution.draw(coin));
    }
  }
}

TEST_CASE("the stream is the same on every build") {
  // A change of these numbers is a change of what ranks of different builds would add to the same sum.
  CHECK(draw(keyed(1), {}, 6, 10) == std::vector<std::int64_t>{-4, -3, 4, -9, 1, -3});
  CHECK(draw(keyed(2), {.lane = 1, .step = 5, .parameter = 9, .element = 63}, 3) ==
        std::vector<std::int64_t>{91377588854, 65442954527, 3872859183});
}

TEST_CASE("hardened: an element's number does not depend on how the range is split") {
  const hardened_gaussian noise = keyed(3);
  for (const double std : {2.5, 0x1.1p37}) {
    const auto whole = draw(noise, {.step = 3, .parameter = 2}, 400, std);
    for (const isize start : {1, 5, 63, 64, 65, 127, 128, 200})
      for (const isize count : {1, 2, 64, 65, 150}) {
        const auto part =
            draw(noise, {.step = 3, .parameter = 2, .element = static_cast<std::uint64_t>(start)}, count, std);
        REQUIRE(std::equal(part.begin(), part.end(), whole.begin() + start));
      }
  }
}

TEST_CASE("the same key draws the same numbers, another key others; the root's key never repeats") {
  CHECK(draw(keyed(1), {}, 100) == draw(keyed(1), {}, 100));
  CHECK(draw(keyed(1), {}, 100) != draw(keyed(2), {}, 100));
  hardened_gaussian root{.noise_multiplier = 1.0};
  root.draw_secret();
  hardened_gaussian other{.noise_multiplier = 1.0};
  REQUIRE(other.secret().size() == 32);
  std::ranges::copy(root.secret(), other.secret().begin());
  CHECK(draw(other, {}, 100) == draw(root, {}, 100));
  root.draw_secret();
  CHECK(draw(other, {}, 100) != draw(root, {}, 100)); // equal with probability 2^-256
  CHECK_FALSE(root.reproducible());
}

TEST_CASE("hardened: numbers whose addresses differ in one field are uncorrelated, and so are their squares") {
  constexpr isize n = 30000;
  const hardened_gaussian noise = keyed(5);
  const auto x = scaled(draw(noise, {.step = 8, .parameter = 4}, n), 0x1p36);
  const address others[] = {{.step = 9, .parameter = 4},
                            {.step = 8, .parameter = 5},
                            {.lane = 1, .step = 8, .parameter = 4},
                            {.what = purpose::side_scalars, .step = 8, .parameter = 4},
                            {.step = 8, .parameter = 4, .element = 1},
                            {.step = 8, .parameter = 4, .element = 64}};
  for (const address& where : others) {
    const auto y = scaled(draw(noise, where, n), 0x1p36);
    const bool same = y == x; // not in the assertion: its expansion of 30000 numbers takes minutes
    REQUIRE_FALSE(same);
    CHECK(std::abs(correlation_score(x, y)) < unlikely);
    CHECK(std::abs(correlation_score(x, y, true)) < unlikely);
  }
}

TEST_CASE("moments, tails and frequencies are those of the discrete Gaussian") {
  const auto x = scaled(draw(keyed(4), {}, 100000, 0x1.7p35), 0x1.7p35);
  for (int k = 1; k <= 4; ++k) CHECK(std::abs(moment_score(x, k)) < unlikely);
  for (const double limit : {1.0, 2.0, 3.0}) CHECK(std::abs(tail_score(x, limit)) < unlikely);
  CHECK(normal_distance(x) < unlikely_distance);
  const discrete_law law = discrete_law::gaussian(1.6);
  CHECK(std::abs(fit_score(draw(keyed(4), {.step = 1}, 100000, 1.6),
                           [&](std::int64_t v) { return law.probability(v); })) < unlikely);
}

TEST_CASE("add() adds to what is there, wraps around at 2^64 and touches nothing else") {
  const hardened_gaussian noise = keyed(7);
  const auto numbers = draw(noise, {}, 40, 100);
  std::vector<std::int64_t> x(42, 7);
  noise.add({}, 100, x.data() + 1, 40);
  CHECK(x.front() == 7);
  CHECK(x.back() == 7);
  for (std::size_t i = 0; i < 40; ++i) REQUIRE(x[i + 1] == 7 + numbers[i]);

  constexpr std::int64_t top = std::numeric_limits<std::int64_t>::max();
  std::vector<std::int64_t> full(40, top);
  noise.add({}, 100, full.data(), 40);
  for (std::size_t i = 0; i < 40; ++i)
    REQUIRE(static_cast<std::uint64_t>(full[i]) - static_cast<std::uint64_t>(top) ==
            static_cast<std::uint64_t>(numbers[i]));
  noise.add({}, 100, nullptr, 0);
}

TEST_CASE("no key, no blocks, no such std: an error, and nothing is written") {
  std::vector<std::int64_t> x(2, 3);
  CHECK_THROWS_AS(hardened_gaussian{.noise_multiplier = 1.0}.add({}, 1, x.data(), 2), dpopt::state_error);
  constexpr std::uint64_t elements = ((std::uint64_t{1} << 44) - 1) * 64;
  CHECK_NOTHROW(keyed(8).add({.element = elements - 1}, 1, std::vector<std::int64_t>(1).data(), 1));
  CHECK_THROWS_AS(keyed(8).add({.element = elements - 1}, 1, x.data(), 2), dpopt::randomness_error);
  CHECK_THROWS_AS(keyed(8).add({.element = std::numeric_limits<std::uint64_t>::max()}, 1, x.data(), 2),
                  dpopt::randomness_error);
  for (const double std : {0.0, -1.0, 0x1p47, std::numeric_limits<double>::quiet_NaN()}) {
    CHECK_THROWS_AS(keyed(8).add({}, std, x.data(), 2), dpopt::invalid_argument);
    CHECK_THROWS_AS(hardened_gaussian::require_std(std), dpopt::invalid_argument);
  }
  CHECK_NOTHROW(hardened_gaussian::require_std(0x1p46));
  CHECK(x == std::vector<std::int64_t>(2, 3));
}

TEST_CASE("a stream that runs out of its group's blocks is an error and no reuse of the next group's") {
  const hardened_gaussian noise = keyed(9);
  dpopt::detail::hardened_words words(noise.key_, {});
  words.start(0);
  std::uint64_t taken = 0;
  const auto take_all = [&] {
    for (; taken < (std::uint64_t{1} << 24); ++taken) static_cast<void>(words());
  };
  CHECK_THROWS_AS(take_all(), dpopt::randomness_error);
  CHECK(taken == dpopt::detail::hardened_words::blocks * 8);
}

TEST_CASE("nothing of the streams' buffers outlives them") {
  // volatile: memory that no object lives in any more is looked at, byte by byte
  const auto holds = [](const unsigned char* memory, std::size_t bytes, std::uint64_t word) {
    for (std::size_t at = 0; at + sizeof word <= bytes; ++at) {
      std::uint64_t there = 0;
      for (std::size_t k = 0; k < sizeof word; ++k)
        there |= std::uint64_t{static_cast<const volatile unsigned char*>(memory)[at + k]} << (8 * k);
      if (there == word) return true;
    }
    return false;
  };
  using words = dpopt::detail::hardened_words;
  alignas(words) static unsigned char memory[sizeof(words)];
  const hardened_gaussian noise = keyed(10);
  auto* const stream = new (memory) words(noise.key_, {});
  stream->start(0);
  const std::uint64_t first = (*stream)();
  CHECK(holds(memory, sizeof memory, first));
  stream->~words();
  CHECK_FALSE(holds(memory, sizeof memory, first));

  using buffers = dpopt::detail::secure_buffers;
  alignas(buffers) static unsigned char more[sizeof(buffers)];
  auto* const drawn = new (more) buffers;
  drawn->bytes.fill(7);
  drawn->combine();
  drawn->~buffers();
  CHECK(sodium_is_zero(more, sizeof more) == 1);
}

TEST_CASE("a child made by fork() is refused what would repeat its parent's noise") {
  std::int64_t x = 0;
  hardened_gaussian noise{.noise_multiplier = 1.0};
  noise.draw_secret();
  noise.add({}, 10, &x, 1);
  const std::string text =
      "noise was asked for in a process that was forked after the key was shared: it would repeat the "
      "parent's noise, so construct the optimizer after fork()";
  CHECK(thrown_in_a_child([&] { noise.add({.step = 1}, 10, &x, 1); }) == text);
  CHECK(thrown_in_a_child([&] { // asking for the key makes it no other key
          static_cast<void>(noise.secret());
          static_cast<void>(noise.secret());
          noise.add({.step = 1}, 10, &x, 1);
        }) == text);
  const hardened_gaussian copy = noise;
  CHECK(thrown_in_a_child([&] { copy.add({.step = 1}, 10, &x, 1); }) == text);
  CHECK(thrown_in_a_child([&] { // a key of its own
          noise.draw_secret();
          noise.add({.step = 1}, 10, &x, 1);
        })
            .empty());
  noise.add({.step = 1}, 10, &x, 1); // the parent goes on

  dpopt::secure_gaussian floating{.noise_multiplier = 1.0};
  floating.draw_secret();
  double y = 0;
  CHECK(thrown_in_a_child([&] { floating.add({}, 10, &y, 1); }) == text);
}

TEST_CASE("no key of hardened or floating noise without entropy: an error that names the cause, and then no numbers") {
  hardened_gaussian exact{.noise_multiplier = 1.0};
  dpopt::secure_gaussian floating{.noise_multiplier = 1.0};
  CHECK_THROWS_AS(exact.draw_secret(no_entropy{}), dpopt::randomness_error);
  CHECK_THROWS_WITH(exact.draw_secret(no_entropy{}), contains_text(no_entropy::cause));
  CHECK_THROWS_AS(floating.draw_secret(no_entropy{}), dpopt::randomness_error);
  std::int64_t x = 0;
  double y = 0;
  CHECK_THROWS_AS(exact.add({}, 1, &x, 1), dpopt::state_error);
  CHECK_THROWS_AS(floating.add({}, 1, &y, 1), dpopt::state_error);
}

TEST_CASE("hardened: validate() refuses a multiplier that is missing, negative or not finite") {
  CHECK_NOTHROW(hardened_gaussian{1.5}.validate());
  CHECK(hardened_gaussian{1.5}.multiplier() == 1.5);
  CHECK(hardened_gaussian{1.5}.describe() == "hardened_gaussian");
  CHECK_THROWS_AS(hardened_gaussian{}.validate(), dpopt::invalid_argument);
  CHECK_THROWS_AS(hardened_gaussian{-1.0}.validate(), dpopt::invalid_argument);
}
