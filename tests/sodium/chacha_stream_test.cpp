// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/sodium/chacha_stream.hpp"

#include "support/catch.hpp"
#include "support/no_entropy.hpp"

#include <algorithm>
#include <limits>
#include <new>
#include <set>
#include <vector>

using dpopt::address;
using dpopt::purpose;
using dpopt::secret_key;
namespace chacha_stream = dpopt::chacha_stream;

namespace {

secret_key counting_key() {
  secret_key out;
  unsigned char next = 0;
  for (std::byte& b : out.bytes()) b = std::byte{next++};
  return out;
}

std::vector<unsigned char> stream(const secret_key& key, const address& where, std::uint64_t first, std::size_t bytes) {
  std::vector<unsigned char> out(bytes, 0xAA);
  chacha_stream::fill(out, key, chacha_stream::nonce_of(where), first);
  return out;
}

TEST_CASE("any block of the stream can be drawn alone, whatever the buffer held") {
  const secret_key key = counting_key();
  const auto whole = stream(key, {}, 0, 640);
  for (const std::size_t block : {0u, 1u, 9u}) {
    const auto part = stream(key, {}, block, 64);
    CHECK(std::equal(part.begin(), part.end(), whole.begin() + static_cast<std::ptrdiff_t>(block * 64)));
  }
  std::vector<unsigned char> right(640);
  const auto nonce = chacha_stream::nonce_of({});
  crypto_stream_xchacha20(right.data(), right.size(), nonce.data(), key.data());
  CHECK(whole == right);
}

TEST_CASE("addresses that differ in any field have nonces that differ") {
  constexpr auto top32 = std::numeric_limits<std::uint32_t>::max();
  constexpr auto top64 = std::numeric_limits<std::uint64_t>::max();
  std::set<chacha_stream::nonce> seen;
  std::size_t given = 0;
  for (const purpose what : {purpose::gradient, purpose::side_scalars, purpose::sampling})
    for (const std::uint32_t lane : {0u, 1u, 256u, top32})
      for (const std::uint64_t step : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{1} << 32, top64})
        for (const std::uint32_t parameter : {0u, 1u, 256u, top32}) {
          seen.insert(chacha_stream::nonce_of({.what = what, .lane = lane, .step = step, .parameter = parameter}));
          ++given;
        }
  CHECK(seen.size() == given);
}

TEST_CASE("a key is empty until it is drawn, and two draws differ") {
  dpopt::require_sodium();
  secret_key key;
  CHECK(key.empty());
  key.draw();
  CHECK_FALSE(key.empty());
  secret_key other;
  other.draw();
  CHECK_FALSE(std::ranges::equal(key.bytes(), other.bytes())); // equal with probability 2^-256
}

TEST_CASE("a key whose source fails is an error that names the cause, and no key, not even the old one") {
  secret_key key = counting_key();
  CHECK_THROWS_AS(key.draw(dpopt::test::no_entropy{}), dpopt::randomness_error);
  CHECK_THROWS_WITH(key.draw(dpopt::test::no_entropy{}),
                    "no key could be drawn from the operating system: no entropy here");
  CHECK(key.empty());
  CHECK_THROWS_AS(key.require_usable(), dpopt::state_error);
  CHECK_THROWS_AS(dpopt::require_sodium(dpopt::test::no_entropy{}), dpopt::randomness_error);
}

TEST_CASE("a key and each of its copies are wiped when they go away") {
  alignas(secret_key) std::array<unsigned char, sizeof(secret_key)> memory;
  memory.fill(0xAA);
  const secret_key key = counting_key();
  auto* const copy = new (memory.data()) secret_key(key);
  REQUIRE(memory[5] == 5);
  copy->~secret_key();
  CHECK(sodium_is_zero(memory.data(), memory.size()) == 1);
  CHECK_FALSE(key.empty());
}

} // namespace
