// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// Bounds that learn, through whole steps: what is counted, which noise is added, what is charged, on one rank and on
// five.
#include "support/catch.hpp"

#include "dpopt/accounting/no_accountant.hpp"
#include "dpopt/accumulation/integer_grid.hpp"
#include "dpopt/clipping/adaptive.hpp"
#include "dpopt/clipping/automatic.hpp"
#include "dpopt/clipping/per_layer.hpp"
#include "dpopt/dp_optimizer/dp_optimizer.hpp"
#include "dpopt/noise/scheduled_multiplier.hpp"
#include "support/probes.hpp"
#include "support/ranks.hpp"
#include "support/statistics.hpp"
#include "support/toy_training.hpp"

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

using namespace dpopt;
using namespace dpopt::test;

namespace {

constexpr double eta = 0.2;
constexpr double counted = 20; // expected units
adaptive_options options(double count_noise_std) {
  return {.learning_rate = eta, .count_noise_std = count_noise_std, .expected_batch_size = across_ranks{counted}};
}
adaptive<per_layer> layers(double count_noise_std = 0) { return {per_layer{{1, 2, 3}}, options(count_noise_std)}; }

/// The sum of the centred bits that the update of bound `now` from `before` shows.
double shown(double before, double now) { return -std::log(now / before) / eta * counted; }

template <class Clip>
struct trained {
  small_model model;
  journal log;
  dp_optimizer<double, Clip, probe_noise, probe_accountant, unscaled> opt;
  explicit trained(Clip clipper, double multiplier = 0, neighbouring relation = neighbouring::add_remove)
      : opt(model.views(), dp_options{.relation = relation}, std::move(clipper), probe_noise{multiplier, &log},
            probe_accountant{&log}, unscaled{}) {}
};

template <class Opt>
void feed(Opt& opt, const small_batch& batch, microbatch m = {}) {
  m.samples = batch.samples;
  opt.begin(m);
  batch.hand_over(opt);
}

} // namespace

TEST_CASE("every unit counts once in every group, and the next step is clipped with what was learned") {
  trained t{layers()};
  feed(t.opt, units_with_norms({0.5, 1.5, 2.5, 3.5, 4.5}));
  t.opt.step();
  const auto& c = t.opt.clipper().bounds();
  CHECK(shown(1, c[0]) == Approx(0.5 - 2));
  CHECK(shown(2, c[1]) == Approx(1 - 1.5));
  CHECK(shown(3, c[2]) == Approx(1.5 - 1));
  const std::vector<double> first = c;
  feed(t.opt, units_with_norms({100}));
  t.opt.pre_step();
  CHECK(t.model.gradients[0][3] == Approx(first[0]).epsilon(1e-7));
  CHECK(t.model.gradients[1][1] == Approx(first[1]).epsilon(1e-7));
}

TEST_CASE("units that are masked or not finite count nothing") {
  trained t{layers()};
  small_batch batch = units_with_norms({0.5, 0.5, 0.5, 50, 50});
  batch.rows[1][2 * 0 + 1] = std::numeric_limits<double>::quiet_NaN(); // unit 0 in layer 1
  batch.rows[2][4] = std::numeric_limits<double>::infinity();          // unit 4 in layer 2
  const std::vector<double> weights{1, 0, 1, 0, 1};
  feed(t.opt, batch, {.weights = weights.data()});
  t.opt.step();
  const auto& c = t.opt.clipper().bounds();
  CHECK(shown(1, c[0]) == Approx(0.5 + 0.5 - 0.5));
  CHECK(shown(2, c[1]) == Approx(0.5 - 0.5));
  CHECK(shown(3, c[2]) == Approx(0.5 + 0.5));
}

TEST_CASE("a unit with a number that is not finite counts nothing for a bound over all layers") {
  trained t{adaptive{flat{1}, options(0)}};
  small_batch batch = units_with_norms({0.1, 0.1, 10});
  batch.rows[1][1] = std::numeric_limits<double>::quiet_NaN();
  feed(t.opt, batch);
  t.opt.step();
  CHECK(shown(1, t.opt.clipper().bounds()[0]) == Approx(0.0).margin(1e-12));
}

TEST_CASE("norms count as they are clipped: weights and the gradient's scale first") {
  trained t{layers()};
  const std::vector<double> weights{1, -4, 0.1};
  feed(t.opt, units_with_norms({0.2, 0.2, 2}), {.gradient_scale = 2, .weights = weights.data()}); // norms 0.4, 1.6, 0.4
  t.opt.step();
  CHECK(shown(1, t.opt.clipper().bounds()[0]) == Approx(0.5));
}

TEST_CASE("an absent gradient counts as zero") {
  trained t{layers()};
  const small_batch batch = units_with_norms({10, 10, 10});
  t.opt.begin({.samples = 3});
  t.opt.gradient_absent(0);
  t.opt.gradient_ready(1, batch.source(1));
  t.opt.gradient_ready(2, batch.source(2));
  t.opt.step();
  CHECK(shown(1, t.opt.clipper().bounds()[0]) == Approx(1.5));
  CHECK(shown(2, t.opt.clipper().bounds()[1]) == Approx(-1.5));
}

TEST_CASE("microbatches and virtual steps add up; empty batches are harmless; what is discarded was never counted") {
  trained t{layers()};
  feed(t.opt, units_with_norms({10, 10, 10}), {.last = false});
  t.opt.discard();
  t.opt.signal_skip_step();
  feed(t.opt, units_with_norms({0.5, 0.5}), {.last = false});
  t.opt.step();
  feed(t.opt, units_with_norms({0.5}), {.last = false});
  feed(t.opt, units_with_norms({}), {.last = false});
  feed(t.opt, units_with_norms({5}));
  t.opt.step();
  CHECK(shown(1, t.opt.clipper().bounds()[0]) == Approx(3 * 0.5 - 0.5));
  const std::vector<double> before = t.opt.clipper().bounds();
  t.opt.begin({.samples = 0});
  t.opt.step();
  CHECK(t.opt.clipper().bounds() == before); // the target is one half
}

TEST_CASE("logical batches of one step multiply the expected number of units") {
  trained t{layers()};
  for (int k = 0; k < 2; ++k) feed(t.opt, units_with_norms({0.5, 0.5, 0.5}), {.last = k == 1, .ends_batch = true});
  t.opt.step();
  CHECK(shown(1, t.opt.clipper().bounds()[0]) == Approx(3.0 / 2));
}

TEST_CASE("a failed step teaches nothing, and its counts are gone") {
  trained t{layers()};
  t.opt.begin({.samples = 1});
  t.opt.gradient_ready(0, units_with_norms({0.5}).source(0));
  CHECK_THROWS_AS(t.opt.step(), state_error); // two gradients are missing
  CHECK(t.opt.clipper().bounds() == std::vector<double>{1, 2, 3});
  feed(t.opt, units_with_norms({10}));
  t.opt.step();
  CHECK(shown(1, t.opt.clipper().bounds()[0]) == Approx(-0.5));
}

TEST_CASE("counts and gradients each get their noise once, and the accountant is told what both cost") {
  for (const auto relation : {neighbouring::add_remove, neighbouring::zero_out, neighbouring::replace_one}) {
    const double twice = relation == neighbouring::replace_one ? 2 : 1;
    const double z = 2;
    trained t{layers(3), z, relation};
    feed(t.opt, units_with_norms({0.5, 0.5}));
    t.opt.pre_step();
    const double left = 1 / std::sqrt(1 / (z * z) - 3 / 36.0); // theorem 1 with three counts
    const double std = left * twice * std::sqrt(1.0 + 4 + 9);
    REQUIRE(t.log.noise.size() == 4);
    CHECK(t.log.noise[0].where.what == purpose::side_scalars);
    CHECK(t.log.noise[0].std == 3 * twice);
    CHECK(t.log.noise[0].count == 3);
    for (std::size_t p = 1; p < 4; ++p) {
      CHECK(t.log.noise[p].where.what == purpose::gradient);
      CHECK(t.log.noise[p].std == Approx(std).epsilon(1e-13));
    }
    CHECK(t.model.gradients[0][0] == Approx(std)); // the probe's noise is its std
    CHECK(t.opt.noise_std() == Approx(std));
    CHECK(shown(1, t.opt.clipper().bounds()[0]) == Approx(1 + 3 * twice));
    REQUIRE(t.log.charged.size() == 1);
    CHECK(t.log.charged[0].noise_multiplier == z);
    CHECK(t.log.charged[0].relation == relation);
  }
}

TEST_CASE("the noise of a step is that of the bounds it was clipped with, also when they move in it") {
  trained t{layers(3), 2};
  const double before = t.opt.sensitivity();
  feed(t.opt, units_with_norms({0.5}));
  t.opt.step();
  CHECK(t.opt.noise_std() == Approx(before * 2 / std::sqrt(1 - 4 * 3 / 36.0)));
  CHECK(t.opt.sensitivity() != before);
}

TEST_CASE("a multiplier that leaves nothing for the gradients is refused at construction, on all ranks alike") {
  CHECK_THROWS_WITH(trained(layers(3), 3.5),
                    contains_text("adaptive: noise_multiplier is 3.5, but 3 counts with count_noise_std 3"));
  CHECK_NOTHROW(trained(layers(3), 3.4));
  CHECK_THROWS_AS(trained(layers(0), 1), invalid_argument);
  const auto errors = run_ranks(3, [](threads comm) {
    small_model mine;
    const double std = comm.rank() == 1 ? 1 : 3;
    dp_optimizer opt(mine.views(), dp_options{}, layers(std), std::move(comm), probe_noise{2}, no_accountant{},
                     unscaled{});
  });
  for (const auto& e : errors) CHECK(error_text(e).find("rank 1: adaptive: noise_multiplier is 2") == 0);
}

TEST_CASE("a multiplier with a schedule is checked at its greatest") {
  small_model model;
  const auto make = [&](auto schedule) {
    dp_optimizer opt(model.views(), dp_options{}, layers(3), scheduled_multiplier{probe_noise{2}, schedule},
                     no_accountant{}, unscaled{});
  };
  CHECK_NOTHROW(make(cosine_decay{10, 1.7}));
  CHECK_THROWS_WITH(make(cosine_decay{10, 1.8}), contains_text("adaptive: noise_multiplier is 3.6"));
  CHECK_THROWS_AS(make(lambda_schedule{[](std::uint64_t) { return 1.0; }}),
                  invalid_argument); // says nothing about others
  CHECK_NOTHROW(make(lambda_schedule{[](std::uint64_t) { return 1.0; }, 1}));
}

TEST_CASE("a rule inside works with the learned bound") {
  trained t{adaptive{automatic{flat{1}, 0.5}, options(0)}};
  feed(t.opt, units_with_norms({0.1, 10}));
  t.opt.step();
  feed(t.opt, units_with_norms({10, 10}));
  t.opt.step();
  const double c = t.opt.clipper().bounds()[0];
  CHECK(shown(1, c) == Approx(-1));
  feed(t.opt, units_with_norms({1.5}));
  t.opt.pre_step();
  CHECK(t.model.gradients[0][3] == Approx(1.5 * c / (1.5 * std::sqrt(3.0) + 0.5)));
}

TEST_CASE("any number of ranks learns the bits that one rank learns") {
  const auto run = [](auto comm, isize steps) {
    const int rank = comm.rank();
    const int ranks = comm.size();
    toy_model<double> model(toy_sizes());
    dp_optimizer opt(
        model.views(), dp_options{.bucket_elements = 16},
        adaptive{per_layer{0.6}, {.count_noise_std = 4, .expected_batch_size = across_ranks{23}, .greatest_bound = 64}},
        integer_grid{}, std::move(comm), counter_gaussian{.noise_multiplier = 0.8, .seed = 20240229},
        expected_batch{across_ranks{23}}, sgd{.learning_rate = 0.5}, no_accountant{});
    toy_feeder<double> feeder;
    for (isize s = 0; s < steps; ++s) {
      feeder.feed(opt, s, uneven_share(23, s, rank, ranks), static_cast<std::uint64_t>(10 * s + rank + 1));
      opt.step();
    }
    return std::pair(opt.clipper().bounds(), model.all_values());
  };
  const auto one = run(serial{}, 4);
  for (const double c : one.first) CHECK(c != 0.6);
  for (int w = 1; w <= 5; ++w) {
    std::vector<std::pair<std::vector<double>, std::vector<double>>> results(static_cast<std::size_t>(w));
    const auto errors = run_ranks(w, [&](threads comm) {
      const auto rank = static_cast<std::size_t>(comm.rank());
      results[rank] = run(std::move(comm), 4);
    });
    REQUIRE(error_texts(errors) == "");
    for (const auto& r : results) {
      CHECK(r.first == one.first);
      CHECK(r.second == one.second);
    }
  }
}

// Empty steps show the noise of each count by itself. Over 300 steps and three counts the sum of squares is within five
// standard errors of its expectation with probability 1 - 5.7e-7 (statistics.hpp); so a std that is 12 % off, a share
// left out, or noise of two ranks is seen. The seed is fixed.
TEMPLATE_TEST_CASE("the counts' noise has its standard deviation once, wherever it is added", "", replicated,
                   root_before_reduction, independent_shares) {
  for (const int ranks : {1, 3}) {
    std::vector<std::vector<double>> by_rank(static_cast<std::size_t>(ranks));
    const auto errors = run_ranks(ranks, [&](threads comm) {
      const auto rank = static_cast<std::size_t>(comm.rank());
      small_model model;
      dp_optimizer opt(model.views(), dp_options{}, layers(3), std::move(comm),
                       counter_gaussian{.noise_multiplier = 0.5, .seed = 11}, TestType{}, no_accountant{}, unscaled{},
                       sgd{.learning_rate = 0});
      for (int s = 0; s < 300; ++s) {
        const std::vector<double> before = opt.clipper().bounds();
        opt.begin({.samples = 0});
        opt.step();
        for (std::size_t g = 0; g < 3; ++g) by_rank[rank].push_back(shown(before[g], opt.clipper().bounds()[g]) / 3);
      }
    });
    REQUIRE(error_texts(errors) == "");
    CHECK(by_rank.front() == by_rank.back());
    CHECK(std::abs(moment_score(by_rank[0], 1)) < unlikely);
    CHECK(std::abs(moment_score(by_rank[0], 2)) < unlikely);
    CHECK(normal_distance(by_rank[0]) < unlikely_distance);
  }
}
