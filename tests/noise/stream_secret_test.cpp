// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/noise/stream_secret.hpp"

#include "support/catch.hpp"
#include "support/no_entropy.hpp"

#include <algorithm>
#include <set>

using dpopt::stream_secret;

namespace {

stream_secret drawn(std::optional<std::uint64_t> seed, std::uint64_t incarnation) {
  stream_secret out;
  out.draw(seed, incarnation);
  return out;
}

TEST_CASE("keys depend on every half of the seed and the incarnation, and on the use") {
  std::set<dpopt::philox_key> keys;
  for (const std::uint64_t seed : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{1} << 32})
    for (const std::uint64_t incarnation : {std::uint64_t{0}, std::uint64_t{1}, std::uint64_t{1} << 32})
      for (const int use : {0, 1}) keys.insert(drawn(seed, incarnation).key(use));
  CHECK(keys.size() == 18);
}

TEST_CASE("a secret that was not given differs from draw to draw") {
  CHECK(drawn({}, 0).key(0) != drawn({}, 0).key(0)); // equal with probability 2^-64
}

TEST_CASE("a copy of the bytes is the secret; before that there is none") {
  stream_secret root = drawn(42, 7);
  stream_secret other;
  CHECK_THROWS_AS(other.key(0), dpopt::state_error);
  REQUIRE(root.bytes().size() == other.bytes().size());
  std::ranges::copy(root.bytes(), other.bytes().begin());
  CHECK(other.key(0) == root.key(0));
  CHECK(other.key(1) == root.key(1));
}

TEST_CASE("without entropy there is no fresh seed or incarnation, and nothing changes") {
  using dpopt::test::no_entropy;
  stream_secret secret = drawn(42, 7);
  CHECK_THROWS_AS(secret.draw({}, 0, no_entropy{}), dpopt::randomness_error);
  CHECK_THROWS_WITH(secret.draw({}, 0, no_entropy{}), contains_text(no_entropy::cause));
  CHECK_THROWS_AS(secret.renew(42, no_entropy{}), dpopt::randomness_error);
  CHECK(secret.key(0) == drawn(42, 7).key(0));
  CHECK_NOTHROW(secret.draw(42, 7, no_entropy{})); // a user's seed needs none
}

} // namespace
