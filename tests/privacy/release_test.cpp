// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// What a release must be for its epsilon to be true, on one process; quick to compile, since mutants are run against
// it.
#include "dpopt/dp_optimizer/dp_optimizer.hpp"

#include "dpopt/clipping/per_layer.hpp"
#include "support/catch.hpp"
#include "support/probes.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <string>
#include <tuple>
#include <vector>

using namespace dpopt;
using namespace dpopt::test;

namespace {

constexpr std::array<double, 3> bounds{0.9, 0.4, 0.3};
constexpr double multiplier = 3;
constexpr double expected_size = 8;
const double sensitivity = std::sqrt(0.81 + 0.16 + 0.09);

using optimizer = dp_optimizer<double, per_layer, probe_noise, probe_accountant, expected_batch>;

// An optimizer on a small model, without arrays of the user's own for what is released.
struct run {
  small_model model;
  journal log;
  optimizer opt;

  explicit run(dp_options options = {})
      : opt(model.views_without_gradients(), options, per_layer{{bounds[0], bounds[1], bounds[2]}},
            probe_noise{multiplier, &log}, probe_accountant{&log},
            expected_batch{.expected_batch_size = expected_size}) {}

  void feed(const small_batch& b, microbatch m = {}) {
    m.samples = b.samples;
    opt.begin(m);
    b.hand_over(opt);
  }
  std::vector<double> released() {
    std::vector<double> all;
    for (isize p = 0; p < 3; ++p)
      all.insert(all.end(), opt.released_gradient(p).begin(), opt.released_gradient(p).end());
    return all;
  }
};

std::vector<double> right(const small_batch& b, double std = multiplier * sensitivity, double divisor = expected_size) {
  return over(plus(b.clipped_per_layer(bounds), std), divisor);
}

const small_batch first(5, 1);
const small_batch second(3, 2);
const small_batch third(11, 3);

} // namespace

TEST_CASE("a release is (the sum of clipped samples + multiplier x sensitivity, once) / expected size") {
  for (const small_batch& b : {first, second, third}) { // the actual size makes no difference
    run r;
    r.feed(b);
    r.opt.pre_step();
    CHECK(close(r.released(), right(b)));
  }
}

TEST_CASE("noise comes once a release, whatever the number of microbatches") {
  run r;
  r.feed(first, {.last = false});
  r.feed(second, {.last = false});
  r.feed(third);
  r.opt.pre_step();
  const std::vector<double> sum =
      plus(plus(first.clipped_per_layer(bounds), second.clipped_per_layer(bounds)), third.clipped_per_layer(bounds));
  CHECK(close(r.released(), over(plus(sum, multiplier * sensitivity), expected_size)));
  CHECK(r.log.noise.size() == 3); // once a parameter
}

TEST_CASE("noise for replaced records is twice that for added ones") {
  run r(dp_options{.relation = neighbouring::replace_one});
  r.feed(first);
  r.opt.pre_step();
  CHECK(close(r.released(), right(first, 2 * multiplier * sensitivity)));
  REQUIRE(r.log.charged.size() == 1);
  CHECK(r.log.charged[0].relation == neighbouring::replace_one);
}

TEST_CASE("a logical batch that the trainer declares divides, a physical part does not") {
  run r;
  r.feed(first, {.last = false, .ends_batch = true});
  r.feed(second);
  r.opt.pre_step();
  const std::vector<double> sum = plus(first.clipped_per_layer(bounds), second.clipped_per_layer(bounds));
  CHECK(close(r.released(), over(plus(sum, multiplier * sensitivity), 2 * expected_size)));
}

TEST_CASE("nothing of a release stays in the sum") {
  run r;
  r.feed(first);
  r.opt.step();
  r.feed(second);
  r.opt.pre_step();
  CHECK(close(r.released(), right(second)));
  r.opt.step(); // takes what pre_step() released
  r.feed(third);
  r.opt.pre_step();
  CHECK(close(r.released(), right(third)));
}

TEST_CASE("what was discarded is not released") {
  run r;
  r.feed(first, {.last = false});
  r.opt.discard();
  r.feed(second);
  r.opt.pre_step();
  CHECK(close(r.released(), right(second)));
}

TEST_CASE("what failed is not released with the next step") {
  run r;
  r.feed(first, {.last = false});
  r.opt.gradient_ready(0, first.source(0)); // a second time
  CHECK_THROWS_AS(r.opt.step(), state_error);
  r.feed(second);
  r.opt.pre_step();
  CHECK(close(r.released(), right(second)));
}

TEST_CASE("no number of noise is used twice, not even by a step that failed") {
  std::vector<double> large(2500, 0.0);
  std::vector<double> small(3, 0.0);
  journal log;
  optimizer opt(std::vector<parameter_view<double>>{{"large", large}, {"small", small}}, dp_options{}, per_layer{1.0},
                probe_noise{multiplier, &log}, probe_accountant{&log}, expected_batch{.expected_batch_size = 1});
  for (int step = 0; step < 3; ++step) {
    opt.begin({.samples = 0});
    opt.step();
  }
  opt.begin({.samples = 1}); // without gradients
  CHECK_THROWS_AS(opt.step(), state_error);
  opt.begin({.samples = 0});
  opt.pre_step();
  opt.begin({.samples = 0});
  opt.add_noise();
  std::vector<std::tuple<std::uint64_t, std::uint32_t, std::uint64_t>> numbers;
  for (const auto& call : log.noise)
    for (isize i = 0; i < call.count; ++i)
      numbers.emplace_back(call.where.step, call.where.parameter, call.where.element + static_cast<std::uint64_t>(i));
  CHECK(numbers.size() == 5 * 2503);
  std::sort(numbers.begin(), numbers.end());
  CHECK(std::adjacent_find(numbers.begin(), numbers.end()) == numbers.end());
  CHECK(std::get<0>(numbers.back()) == 5); // number 3 went with the step that failed
}

TEST_CASE("the accountant is told of each release, once, before its noise is drawn") {
  run r;
  r.opt.signal_skip_step();
  r.feed(first);
  r.opt.step();
  CHECK(r.log.charged.empty()); // nothing was released
  r.feed(second);
  r.opt.step();
  CHECK(r.log.order == std::vector<std::string>{"charge", "noise"});
  REQUIRE(r.log.charged.size() == 1);
  CHECK(r.log.charged[0].noise_multiplier == multiplier);
  CHECK(r.log.charged[0].sampling_rate == 1);
  CHECK(r.log.charged[0].count == 1);
  r.feed(third, {.token = {sampling_scheme::poisson, 0.25, 1}});
  r.opt.pre_step();
  REQUIRE(r.log.charged.size() == 2);
  CHECK(r.log.charged[1].sampling_rate == 0.25);
}

TEST_CASE("a sampling token pays once") {
  run r;
  r.feed(first, {.token = {sampling_scheme::poisson, 0.25, 1}});
  r.opt.step();
  r.feed(second, {.token = {sampling_scheme::poisson, 0.25, 1}});
  CHECK_THROWS_AS(r.opt.step(), state_error);
}
