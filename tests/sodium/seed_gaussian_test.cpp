// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/sodium/seed_gaussian.hpp"

#include "support/catch.hpp"
#include "support/no_entropy.hpp"

#include <algorithm>
#include <vector>

using dpopt::counter_gaussian;
using dpopt::secure_gaussian;
using dpopt::seed_gaussian;

namespace {

static_assert(!dpopt::NoiseMechanism<seed_gaussian, std::int64_t>); // no Gaussian on an integer grid

template <class V, class Noise>
std::vector<V> draw(const Noise& noise) {
  std::vector<V> out(100);
  noise.add({.step = 3, .parameter = 1, .element = 5}, 1.5, out.data(), 100);
  return out;
}

/// A rank that received the root's bytes.
template <class Noise>
Noise receiver(seed_gaussian root, Noise out) {
  REQUIRE(root.secret().size() >= out.secret().size());
  std::ranges::copy(root.secret().first(out.secret().size()), out.secret().begin());
  return out;
}

TEMPLATE_TEST_CASE("by default it is counter_gaussian, bit for bit", "", float, double) {
  seed_gaussian noise{.noise_multiplier = 1.0, .generator_seed = 20, .incarnation = 3};
  noise.draw_secret();
  counter_gaussian same{.noise_multiplier = 1.0, .seed = 20, .incarnation = 3};
  same.draw_secret();
  CHECK(draw<TestType>(noise) == draw<TestType>(same));
}

TEMPLATE_TEST_CASE("in secure mode it is secure_gaussian, bit for bit", "", float, double) {
  seed_gaussian noise{.noise_multiplier = 1.0, .secure_mode = true};
  noise.draw_secret();
  CHECK(draw<TestType>(noise) == draw<TestType>(receiver(noise, secure_gaussian{1.0})));
}

TEST_CASE("the secret has one length in both modes, and a copy of it draws the root's numbers") {
  seed_gaussian counter{.noise_multiplier = 1.0};
  seed_gaussian secure{.noise_multiplier = 1.0, .secure_mode = true};
  CHECK(counter.secret().size() == secure.secret().size());
  for (seed_gaussian* const root : {&counter, &secure}) {
    const seed_gaussian unshared = *root;
    double x = 0;
    CHECK_THROWS_AS(unshared.add({}, 1, &x, 1), dpopt::state_error);
    root->draw_secret();
    CHECK(draw<double>(receiver(*root, unshared)) == draw<double>(*root));
  }
}

TEST_CASE("each start without a seed draws other numbers, in both modes") {
  for (const bool secure : {false, true}) {
    seed_gaussian one{.noise_multiplier = 1.0, .secure_mode = secure};
    seed_gaussian two = one;
    one.draw_secret();
    two.draw_secret();
    CHECK(draw<double>(one) != draw<double>(two)); // equal with probability 2^-64 at most
  }
}

TEST_CASE("a renewed secret draws other numbers, in both modes and also with a user's seed") {
  for (const bool secure : {false, true}) {
    seed_gaussian noise{.noise_multiplier = 1.0, .secure_mode = secure};
    if (!secure) noise.generator_seed = 20;
    noise.draw_secret();
    const auto before = draw<double>(noise);
    noise.renew_secret();
    CHECK(draw<double>(noise) != before); // equal with probability 2^-64 at most
  }
}

TEST_CASE("seed_gaussian: no entropy is an error that names the cause, in both modes") {
  for (const bool secure : {false, true}) {
    seed_gaussian noise{.noise_multiplier = 1.0, .secure_mode = secure};
    CHECK_THROWS_AS(noise.draw_secret(dpopt::test::no_entropy{}), dpopt::randomness_error);
    CHECK_THROWS_WITH(noise.draw_secret(dpopt::test::no_entropy{}), contains_text(dpopt::test::no_entropy::cause));
    CHECK_THROWS_AS(noise.renew_secret(dpopt::test::no_entropy{}), dpopt::randomness_error);
    CHECK_THROWS_AS(draw<double>(noise), dpopt::state_error);
  }
}

TEST_CASE("secure_mode refuses a generator, and no mode a bad multiplier") {
  CHECK_THROWS_AS((seed_gaussian{.noise_multiplier = 1.0, .generator_seed = 1, .secure_mode = true}.validate()),
                  dpopt::invalid_argument);
  CHECK_THROWS_WITH((seed_gaussian{.noise_multiplier = 1.0, .generator_seed = 1, .secure_mode = true}.validate()),
                    "secure_mode draws its own key: leave generator empty");
  CHECK_NOTHROW((seed_gaussian{.noise_multiplier = 1.0, .generator_seed = 1}.validate()));
  CHECK_NOTHROW((seed_gaussian{.noise_multiplier = 1.0, .secure_mode = true}.validate()));
  CHECK_THROWS_AS(seed_gaussian{}.validate(), dpopt::invalid_argument);
  CHECK_THROWS_AS((seed_gaussian{.noise_multiplier = -1.0, .secure_mode = true}.validate()), dpopt::invalid_argument);
}

TEST_CASE("only a user's seed makes a run reproducible, and the mode shows in describe()") {
  CHECK(seed_gaussian{.noise_multiplier = 1.0, .generator_seed = 1}.reproducible());
  CHECK_FALSE(seed_gaussian{.noise_multiplier = 1.0}.reproducible());
  CHECK_FALSE(seed_gaussian{.noise_multiplier = 1.0, .secure_mode = true}.reproducible());
  CHECK(seed_gaussian{.noise_multiplier = 1.0, .secure_mode = true}.describe() !=
        seed_gaussian{.noise_multiplier = 1.0}.describe());
}

} // namespace
