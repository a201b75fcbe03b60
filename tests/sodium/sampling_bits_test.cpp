// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "support/catch.hpp"

#include "dpopt/sampling/poisson.hpp"
#include "dpopt/sodium/secure_bits.hpp"
#include "dpopt/sodium/seed_bits.hpp"
#include "support/forked.hpp"
#include "support/no_entropy.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <set>

using namespace dpopt;
using namespace dpopt::test;

TEST_CASE("secure_bits: without a key there are no bits; with one they are fixed, distinct and balanced") {
  secure_bits source;
  CHECK_THROWS_AS(source.bits(0, 0), state_error);
  std::ranges::fill(source.secret(), std::byte{42});
  std::set<std::uint64_t> seen;
  double ones = 0;
  for (std::uint64_t draw = 0; draw < 40; ++draw)
    for (std::uint64_t record = 0; record < 50; ++record) {
      const auto b = source.bits(draw, record);
      CHECK(b == source.bits(draw, record));
      seen.insert(b);
      ones += static_cast<double>(std::popcount(b));
    }
  CHECK(seen.size() == 2000);
  CHECK(std::abs(ones - 64000) < 4.9 * std::sqrt(128000 / 4.0)); // significance 1e-6, fixed key
}

TEST_CASE("seed_bits: delegates to the seed's stream or to the cipher, and refuses both at once") {
  poisson_sampler by_seed(300, 0.5, seed_bits{.generator_seed = 9});
  poisson_sampler directly(300, 0.5, counter_bits{.seed = 9});
  CHECK(by_seed.next().records == directly.next().records);
  CHECK(by_seed.reproducible());
  poisson_sampler secure(300, 0.5, seed_bits{.secure_mode = true});
  poisson_sampler again(300, 0.5, seed_bits{.secure_mode = true});
  CHECK_FALSE(secure.reproducible());
  CHECK(secure.next().records != again.next().records); // by chance once in 2^300
  CHECK_THROWS_WITH(poisson_sampler(10, 0.5, seed_bits{.generator_seed = 1, .secure_mode = true}),
                    contains_text("secure_mode draws its own key"));
}

TEST_CASE("secure_bits and seed_bits: no entropy is an error that names the cause, and then there are no bits") {
  secure_bits secure;
  CHECK_THROWS_AS(secure.draw_secret(no_entropy{}), randomness_error);
  CHECK_THROWS_WITH(secure.draw_secret(no_entropy{}), contains_text(no_entropy::cause));
  CHECK_THROWS_AS(secure.bits(0, 0), state_error);
  for (const bool mode : {false, true}) {
    seed_bits either{.secure_mode = mode};
    CHECK_THROWS_AS(either.draw_secret(no_entropy{}), randomness_error);
    CHECK_THROWS_WITH(either.draw_secret(no_entropy{}), contains_text(no_entropy::cause));
    CHECK_THROWS_AS(either.bits(0, 0), state_error);
  }
}

TEST_CASE("a child made by fork() is refused batches that would repeat its parent's sampling") {
  poisson_sampler directly(10, 0.5, secure_bits{});
  poisson_sampler chosen(10, 0.5, seed_bits{.secure_mode = true});
  poisson_sampler fast(10, 0.5, seed_bits{});
  poisson_sampler usual(10, 0.5);
  const std::string refused = "the sampler is used in a process that was forked after it was constructed, and would "
                              "repeat the random numbers of the parent; construct it after fork()";
  CHECK(thrown_in_a_child([&] { static_cast<void>(directly.next()); }) == refused);
  CHECK(thrown_in_a_child([&] { static_cast<void>(chosen.next()); }) == refused);
  CHECK(thrown_in_a_child([&] { static_cast<void>(fast.next()); }) == refused);
  CHECK(thrown_in_a_child([&] { static_cast<void>(usual.next()); }) == refused);
  CHECK(thrown_in_a_child([] { static_cast<void>(poisson_sampler(10, 0.5, secure_bits{}).next()); }).empty());
  poisson_sampler reproducible(10, 0.5, counter_bits{.seed = 1}); // whose user could repeat it anyway
  CHECK(thrown_in_a_child([&] { static_cast<void>(reproducible.next()); }).empty());
  CHECK_NOTHROW(static_cast<void>(directly.next())); // the parent goes on
}
