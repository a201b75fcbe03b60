// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// Placement sharded through whole steps: the same release as replicated, one noise, one error for all ranks.
#include "support/catch.hpp"

#include "dpopt/communication/threads.hpp"
#include "dpopt/noise/banded.hpp"
#include "dpopt/noise/correlated.hpp"
#include "dpopt/sodium/hardened_gaussian.hpp"
#include "support/rank_promises.hpp"
#include "support/ranks.hpp"

#include <atomic>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

using namespace dpopt;
using namespace dpopt::test;

namespace {

/// Runs f(first communicator, second communicator) on each of W ranks.
template <class F>
std::string on_two_worlds(int ranks, F f) {
  threads::world other(ranks);
  return error_texts(run_ranks(ranks, [&](threads comm) {
    threads second(other, comm.rank());
    f(std::move(comm), std::move(second));
  }));
}

/// What W ranks release of zero gradients in two steps, by rank.
template <class Noise, class Placed, class... More>
std::vector<std::vector<double>> noise_alone(int ranks, const Noise& noise, Placed placed, More... more) {
  std::vector<std::vector<double>> out(static_cast<std::size_t>(ranks));
  rethrow_first(run_ranks(ranks, [&](threads comm) {
    const auto me = static_cast<std::size_t>(comm.rank());
    std::vector<double> w(9001), g(9001), v(7);
    const std::vector<parameter_view<double>> views{{"w", w, g}, {"v", v}};
    dp_optimizer opt(views, dp_options{.bucket_elements = 8}, flat{1.0}, std::move(comm), noise, placed,
                     expected_batch{across_ranks{10}}, sgd{.learning_rate = 0.1}, no_accountant{}, more...);
    for (int s = 0; s < 2; ++s) {
      opt.begin({.samples = 0});
      opt.step();
    }
    out[me] = g;
    out[me].insert(out[me].end(), w.begin(), w.end());
    out[me].insert(out[me].end(), v.begin(), v.end());
  }));
  return out;
}

/// counter_gaussian that fails from a given step on, on the ranks that say so.
struct failing_noise {
  using role = roles::noise;
  static constexpr bool addressable = true;
  counter_gaussian inner;
  bool fails = false;
  [[nodiscard]] double multiplier() const { return inner.multiplier(); }
  void validate() const { inner.validate(); }
  void draw_secret() { inner.draw_secret(); }
  [[nodiscard]] std::span<std::byte> secret() { return inner.secret(); }
  [[nodiscard]] bool reproducible() const { return inner.reproducible(); }
  [[nodiscard]] static std::string describe() { return "failing_noise"; }
  template <std::floating_point V>
    requires NoiseMechanism<counter_gaussian, V>
  void add(const address& where, double std, V* x, isize count) {
    if (fails && where.step == 1 && std != 1.0) throw randomness_error("no more entropy"); // std 1 is the probe
    inner.add(where, std, x, count);
  }
};

} // namespace

TEST_CASE("sharded releases what replicated releases, on 1 to 5 ranks") {
  for (int w = 1; w <= 5; ++w) {
    INFO(w << " ranks");
    CHECK(on_two_worlds(w, [](threads a, threads b) { // threads add in rank order, scattered or not
            sharded_equals_replicated<double, running_sum<double>>(std::move(a), std::move(b), 0);
          }) == "");
    CHECK(on_two_worlds(w, [](threads a, threads b) {
            sharded_equals_replicated<float, integer_grid>(std::move(a), std::move(b), 0);
          }) == "");
  }
}

// Double parentheses: a failure need not print thousands of numbers, which takes Catch2 minutes.
TEST_CASE("sharded adds one noise, with the right variance, and the same to all ranks' gradients") {
  const counter_gaussian noise{.noise_multiplier = 1.5, .seed = 9};
  for (int w = 1; w <= 5; ++w) {
    const auto by_rank = noise_alone(w, noise, sharded{});
    for (const auto& r : by_rank) CHECK((r == by_rank[0]));
    CHECK((by_rank == noise_alone(w, noise, replicated{})));
    double squares = 0;
    for (std::size_t i = 0; i < 9001; ++i) squares += by_rank[0][i] * by_rank[0][i];
    // Chi-square with 9001 degrees of freedom: 1 +- 4.9 sqrt(2 / 9001) is beyond significance 1e-6. Fixed seed.
    CHECK(std::abs(squares / 9001 / (0.15 * 0.15) - 1) < 4.9 * std::sqrt(2.0 / 9001));
  }
}

TEST_CASE("sharded works with correlated noise, and with exact discrete noise on the integer grid") {
  const auto plan = run_plan::once(3);
  const correlated noise(counter_gaussian{.noise_multiplier = 1, .seed = 4}, banded(std::vector<double>{1.0, 0.5}),
                         plan);
  CHECK((noise_alone(3, noise, sharded{}) == noise_alone(3, noise, replicated{})));
  const auto discrete = noise_alone(3, hardened_gaussian{1.0}, sharded{}, integer_grid{}); // its key is fresh each time
  CHECK((discrete[1] == discrete[0]));
  CHECK((discrete[2] == discrete[0]));
  double squares = 0;
  for (std::size_t i = 0; i < 9001; ++i) squares += discrete[0][i] * discrete[0][i];
  CHECK(std::abs(squares / 9001 / 0.01 - 1) < 6.2 * std::sqrt(2.0 / 9001)); // significance 1e-9
}

TEST_CASE("a rank whose noise fails fails the step on all ranks, and nothing is written") {
  for (const bool hooked : {false, true}) {
    const auto errors = run_ranks(3, [&](threads comm) {
      const int rank = comm.rank();
      std::vector<double> w(100, 1.0);
      const std::vector<parameter_view<double>> views{{"w", w}};
      dp_optimizer opt(views, dp_options{}, flat{1.0}, std::move(comm),
                       failing_noise{{.noise_multiplier = 1.25, .seed = 1}, rank == 1}, sharded{},
                       expected_batch{across_ranks{10}}, sgd{.learning_rate = 0.1}, no_accountant{});
      if (hooked) opt.attach_step_hook([](auto&) {});
      const auto step = [&] {
        opt.begin({.samples = 0});
        opt.step();
      };
      step();
      const std::vector<double> before = w;
      const std::string text = thrown_text<rank_error>(step);
      expect(text == "rank 1: no more entropy (1 of 3 ranks failed)", text);
      expect(w == before && opt.updates() == 1, "a failed step leaves the parameters as they were");
      step(); // and the next one works
      expect(w != before && alike(opt.communicator(), w), "the step after a failed one");
    });
    CHECK(error_texts(errors) == "");
  }
}
