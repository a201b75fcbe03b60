// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/noise/scheduled_multiplier.hpp"

#include "dpopt/noise/sequential_gaussian.hpp"
#include "support/catch.hpp"

#include <cstdint>
#include <limits>
#include <random>
#include <utility>
#include <vector>

using namespace dpopt;

static_assert(!AddressableNoise<scheduled_multiplier<sequential_gaussian<std::mt19937_64>, exponential_decay>>);
static_assert(!SharesSecret<scheduled_multiplier<sequential_gaussian<std::mt19937_64>, exponential_decay>>);

namespace {

/// Integer noise that is picky about its standard deviation.
struct discrete_probe {
  using role = roles::noise;
  static constexpr noise_kind kind = noise_kind::discrete_gaussian;
  [[nodiscard]] double multiplier() const { return 1; }
  void validate() const {}
  void add(const address&, double, std::int64_t*, isize) {}
  static void require_std(double std_in_units) {
    if (std_in_units < 1) throw invalid_argument("too small");
  }
};

using scheduled_probe = scheduled_multiplier<discrete_probe, exponential_decay>;
static_assert(NoiseMechanism<scheduled_probe, std::int64_t> && !NoiseMechanism<scheduled_probe, double>);
static_assert(DiscreteNoise<scheduled_probe>); // or the accountant would charge it as real noise
static_assert(!DiscreteNoise<scheduled_multiplier<counter_gaussian, exponential_decay>>);

/// What threads and devices draw from.
template <class N, class V>
concept draws_unchanged = requires(const N n, V* x) { n.add(address{}, 1.0, x, isize{1}); };
static_assert(draws_unchanged<scheduled_multiplier<counter_gaussian, exponential_decay>, double>);
static_assert(!draws_unchanged<scheduled_probe, std::int64_t>); // as the mechanism inside

} // namespace

TEST_CASE("what the mechanism refuses to add is refused still") {
  const scheduled_probe noise{discrete_probe{}, exponential_decay{0.5}};
  CHECK_NOTHROW(noise.require_std(1));
  CHECK_THROWS_WITH(noise.require_std(0.5), "too small");
}

TEST_CASE("the multiplier is the mechanism's own times the schedule's, a pure function of the step") {
  scheduled_multiplier noise{counter_gaussian{.noise_multiplier = 3}, step_decay{2, 0.5}};
  noise.validate();
  CHECK(noise.multiplier() == 3);
  noise.start_step(5);
  CHECK(noise.multiplier() == 0.75);
  noise.start_step(2);
  CHECK(noise.multiplier() == 1.5);
}

TEST_CASE("the numbers are the mechanism's, bit for bit") {
  scheduled_multiplier noise{counter_gaussian{.noise_multiplier = 3, .seed = 7}, exponential_decay{0.5}};
  counter_gaussian plain{.noise_multiplier = 3, .seed = 7};
  noise.draw_secret();
  plain.draw_secret();
  noise.start_step(4); // std is the caller's business
  std::vector<double> a(9, 0.0), b(9, 0.0);
  noise.add({.step = 4}, 2.0, a.data(), 9);
  plain.add({.step = 4}, 2.0, b.data(), 9);
  CHECK(a == b);
  std::as_const(noise).add({.step = 4, .element = 2}, 2.0, a.data() + 2, 7);
  plain.add({.step = 4, .element = 2}, 2.0, b.data() + 2, 7);
  CHECK(a == b);
  CHECK(noise.reproducible());
  CHECK(noise.secret().size() == plain.secret().size());
}

TEST_CASE("the greatest multiplier covers every step, and no noise stays none") {
  CHECK(scheduled_multiplier{counter_gaussian{.noise_multiplier = 2}, cosine_decay{10, 3}}.greatest_multiplier() == 6);
  CHECK(scheduled_multiplier{counter_gaussian{.noise_multiplier = 2}, exponential_decay{1.1}}.greatest_multiplier() ==
        std::numeric_limits<double>::infinity());
  scheduled_multiplier none{counter_gaussian{.noise_multiplier = 0}, exponential_decay{1.1}};
  CHECK(none.greatest_multiplier() == 0);
  none.start_step(3);
  CHECK(none.multiplier() == 0);
}

TEST_CASE("mechanism and schedule are both checked") {
  CHECK_THROWS_AS((scheduled_multiplier{counter_gaussian{}, exponential_decay{0.9}}.validate()), invalid_argument);
  CHECK_THROWS_AS((scheduled_multiplier{counter_gaussian{.noise_multiplier = 1}, exponential_decay{}}.validate()),
                  invalid_argument);
  scheduled_multiplier noise{counter_gaussian{.noise_multiplier = 1e308}, exponential_decay{2}};
  CHECK_NOTHROW(noise.validate());
  CHECK_THROWS_AS(noise.start_step(10), invalid_argument); // overflows
  CHECK(noise.multiplier() == 1e308);                      // what it was
}

TEST_CASE("the description holds both and no secret") {
  CHECK(scheduled_multiplier{counter_gaussian{.noise_multiplier = 2, .seed = 77}, exponential_decay{0.9}}.describe() ==
        "scheduled_multiplier(counter_gaussian, first 2, exponential_decay(gamma=0.9))");
}
