// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// Schedules of the bounds and of the noise multiplier, through whole steps.
#include "support/catch.hpp"

#include "dpopt/accumulation/integer_grid.hpp"
#include "dpopt/clipping/flat.hpp"
#include "dpopt/clipping/scheduled.hpp"
#include "dpopt/dp_optimizer/dp_optimizer.hpp"
#include "dpopt/noise/scheduled_multiplier.hpp"
#include "support/probes.hpp"
#include "support/ranks.hpp"

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

using namespace dpopt;
using namespace dpopt::test;

namespace {

const std::vector<double> halves = {1, 0.5, 0.25, 0.125};
const std::vector<double> thirds = {1, 3, 9, 27};

/// Bound 2 that halves, multiplier 0.1 that triples.
struct trained {
  small_model model;
  journal log;
  dp_optimizer<double, scheduled<flat, exponential_decay>, scheduled_multiplier<probe_noise, exponential_decay>,
               probe_accountant, unscaled>
      opt;
  trained()
      : opt(model.views(), dp_options{}, scheduled{flat{2}, exponential_decay{0.5}},
            scheduled_multiplier{probe_noise{0.1, &log}, exponential_decay{3}}, probe_accountant{&log}, unscaled{}) {}
  void feed() {
    const small_batch batch(3);
    opt.begin({.samples = 3});
    batch.hand_over(opt);
  }
  void expect_step(std::size_t t) {
    CHECK(opt.releases() == t);
    CHECK(opt.sensitivity() == 2 * halves[t]);
    CHECK(opt.noise().multiplier() == Approx(0.1 * thirds[t]));
  }
};

} // namespace

TEST_CASE("each step is clipped, noised and charged with the values of its number") {
  trained t;
  for (std::size_t s = 0; s < 4; ++s) {
    t.expect_step(s);
    const small_batch batch(3);
    t.feed();
    t.opt.step();
    const double std = 2 * halves[s] * 0.1 * thirds[s];
    CHECK(t.opt.noise_std() == Approx(std));
    CHECK(close(t.model.released(), plus(batch.clipped_flat(2 * halves[s]), std)));
    REQUIRE(t.log.charged.size() == s + 1);
    CHECK(t.log.charged[s].noise_multiplier == Approx(0.1 * thirds[s]));
  }
}

TEST_CASE("virtual steps, microbatches and a failed step do not advance the schedule") {
  trained t;
  t.opt.signal_skip_step();
  t.feed();
  t.opt.step();
  t.expect_step(0);
  t.feed();
  t.opt.step();
  t.expect_step(1);
  t.opt.begin({.samples = 1});
  CHECK_THROWS_AS(t.opt.step(), state_error); // no gradients
  t.expect_step(1);
  CHECK(t.log.charged.back().noise_multiplier == Approx(0.3));
  CHECK_THROWS_AS(t.opt.step(), state_error); // no begin()
  t.expect_step(1);
  t.opt.discard();
  t.expect_step(1);
  t.feed();
  t.opt.step();
  t.expect_step(2);
}

TEST_CASE("a release that the trainer's own optimizer takes counts as a step") {
  trained t;
  for (std::size_t s = 0; s < 3; ++s) {
    t.expect_step(s);
    t.feed();
    t.opt.pre_step();
    CHECK(t.opt.noise_std() == Approx(2 * halves[s] * 0.1 * thirds[s]));
    if (s == 1) t.opt.zero_grad(); // or begin() goes on by itself
    else {
      t.opt.begin({.samples = 0});
      t.opt.discard();
    }
  }
  CHECK(t.opt.updates() == 0);
}

TEST_CASE("a step for which nothing is scheduled fails, every time, and on all ranks alike") {
  const auto errors = run_ranks(2, [](threads comm) {
    small_model model;
    const lambda_schedule two_steps{[](std::uint64_t t) { return t < 2 ? 1.0 : 0.0; }};
    dp_optimizer opt(model.views(), dp_options{}, scheduled{flat{1}, two_steps}, std::move(comm), probe_noise{1},
                     probe_accountant{}, unscaled{});
    std::string seen;
    for (int s = 0; s < 4; ++s) {
      try {
        opt.begin({.samples = 0});
        opt.step();
        seen += "ok ";
      } catch (const rank_error& e) {
        seen += std::string(e.what()).find("gives 0 at step 2") != std::string::npos ? "refused " : e.what();
      }
    }
    if (seen != "ok ok refused refused ") throw std::runtime_error(seen);
  });
  CHECK(error_texts(errors) == "");
}

TEST_CASE("bad options of a schedule are errors of the constructor") {
  small_model model;
  CHECK_THROWS_AS(
      dp_optimizer(model.views(), dp_options{}, scheduled{flat{1}, step_decay{}}, probe_noise{1}, unscaled{}),
      invalid_argument);
  CHECK_THROWS_AS(dp_optimizer(model.views(), dp_options{}, flat{1}, scheduled_multiplier{probe_noise{1}, step_decay{}},
                               unscaled{}),
                  invalid_argument);
}

TEST_CASE("the integer grid has room for the greatest bound of the schedule") {
  small_model model;
  const auto sum_at = [&](std::uint64_t steps) {
    dp_optimizer opt(model.views(), dp_options{}, scheduled{flat{1e-3}, cosine_decay{2, 1e6}},
                     integer_grid{40, 1 << 20}, probe_noise{0}, probe_accountant{}, unscaled{});
    for (std::uint64_t s = 0; s < steps; ++s) {
      opt.begin({.samples = 0});
      opt.step();
    }
    const double large[] = {0, 0, 0, 1e9};
    opt.begin({.samples = 1});
    opt.gradient_ready(0, materialized<double>(large, 1, 4));
    opt.gradient_absent(1);
    opt.gradient_absent(2);
    opt.pre_step();
    return model.gradients[0][3];
  };
  CHECK(sum_at(0) == Approx(1e-3).epsilon(1e-5));
  CHECK(sum_at(2) == Approx(1e3).epsilon(1e-9));
  CHECK_THROWS_WITH(dp_optimizer(model.views(), dp_options{}, scheduled{flat{1}, exponential_decay{1.1}},
                                 integer_grid{}, probe_noise{0}, unscaled{}),
                    contains_text("integer_grid: the clipper's bound inf"));
}
