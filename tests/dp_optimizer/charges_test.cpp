// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// What a step costs and which numbers of noise it uses up: accountant, stream addresses, sampling tokens.
#include "dpopt/dp_optimizer/dp_optimizer.hpp"

#include "support/catch.hpp"
#include "support/trainer.hpp"

#include <algorithm>
#include <cstdint>
#include <string>
#include <utility>
#include <vector>

using namespace dpopt;
using namespace dpopt::test;
using namespace dpopt::test::batches;

// Accounting and the numbers of noise -------------------------------------------------------------------------------

TEMPLATE_TEST_CASE("a release is charged once, before its noise is drawn", "", as_ready, at_step) {
  trainer<TestType> t;
  t.feed(first, {.last = false, .token = {sampling_scheme::poisson, 0.125, 1}});
  t.feed(second, {.token = {sampling_scheme::poisson, 0.125, 1}});
  CHECK(t.log.order.empty());
  t.opt.step();
  CHECK(t.log.order == std::vector<std::string>{"charge", "noise"});
  REQUIRE(t.log.charged.size() == 1);
  CHECK(t.log.charged[0].noise_multiplier == multiplier);
  CHECK(t.log.charged[0].sampling_rate == 0.125);
  CHECK(t.log.charged[0].count == 1);
  CHECK(t.log.charged[0].relation == neighbouring::add_remove);
  t.feed(third);
  t.opt.step();
  REQUIRE(t.log.charged.size() == 2);
  CHECK(t.log.charged[1].sampling_rate == 1); // no token, no amplification
  CHECK(t.opt.epsilon(1e-5) == 2);
}

TEMPLATE_TEST_CASE("every parameter of every step draws at an address of its own", "", as_ready, at_step) {
  trainer<TestType> t;
  t.feed(first);
  t.opt.step();
  t.feed(second);
  t.opt.pre_step();
  t.begin(third);
  CHECK_THROWS_AS(t.opt.step(), state_error); // a failed step uses up a number
  t.feed(third);
  t.opt.add_noise();
  t.opt.step();
  REQUIRE(t.log.noise.size() == 9);
  std::vector<std::pair<std::uint64_t, std::uint32_t>> places;
  for (const auto& call : t.log.noise) {
    CHECK(call.where.what == purpose::gradient);
    CHECK(call.where.lane == 0);
    CHECK(call.where.element == 0);
    CHECK(call.std == Approx(layered_std));
    CHECK(call.count == small_model::sizes[call.where.parameter]);
    places.emplace_back(call.where.step, call.where.parameter);
  }
  std::sort(places.begin(), places.end());
  CHECK(std::adjacent_find(places.begin(), places.end()) == places.end());
  CHECK(places.front().first == 0);
  CHECK(places.back().first == 3); // 0, 1, 2 for the failed one, 3
}

TEMPLATE_TEST_CASE("a parameter longer than a tile draws each element at its own address", "", as_ready, at_step) {
  std::vector<double> value(2500, 1.0);
  const std::vector<double> rows(2500, 0.01);
  journal log;
  dp_optimizer<double, per_layer, probe_noise, probe_accountant, expected_batch, sgd, TestType> opt(
      std::vector<parameter_view<double>>{{"long", value}}, dp_options{}, per_layer{1.0}, probe_noise{1.0, &log},
      probe_accountant{}, expected_batch{.loss_reduction = loss_reduction::sum}, sgd{.learning_rate = 1}, TestType{});
  opt.begin({.samples = 1});
  opt.gradient_ready(0, materialized<double>(rows.data(), 1, 2500));
  opt.step();
  isize next = 0;
  for (const auto& call : log.noise) {
    CHECK(call.where.element == static_cast<std::uint64_t>(next));
    next += call.count;
  }
  CHECK(next == 2500);
  for (const double x : value) REQUIRE(x == Approx(1 - 0.01 - 1.0)); // once everywhere
}

TEMPLATE_TEST_CASE("without noise nothing is drawn, and the release is the plain clipped mean", "", as_ready, at_step) {
  small_model model;
  journal log;
  typename trainer<TestType>::optimizer opt(model.views(), dp_options{}, per_layer{{bounds[0], bounds[1], bounds[2]}},
                                            probe_noise{0, &log}, probe_accountant{&log},
                                            expected_batch{.expected_batch_size = expected_size}, sgd{}, TestType{});
  opt.begin({.samples = first.samples});
  first.hand_over(opt);
  opt.step();
  CHECK(close(model.released(), over(first.clipped_per_layer(bounds), expected_size)));
  CHECK(log.noise.empty());
  CHECK(log.charged.size() == 1); // the accountant knows that multiplier 0 is no privacy
  CHECK(log.charged[0].noise_multiplier == 0);
}

// Tokens ------------------------------------------------------------------------------------------------------------

TEMPLATE_TEST_CASE("a sampling token serves one step, whatever becomes of it", "", as_ready, at_step) {
  trainer<TestType> t;
  const sampling_token token{sampling_scheme::poisson, 0.1, 5};
  SECTION("a released one") {
    t.feed(first, {.token = token});
    t.opt.step();
  }
  SECTION("a discarded one") {
    t.feed(first, {.last = false, .token = token});
    t.opt.discard();
  }
  SECTION("a failed one") {
    t.begin(first, {.token = token});
    CHECK_THROWS_AS(t.opt.step(), state_error);
  }
  SECTION("a released one and a step without a token") {
    t.feed(first, {.token = token});
    t.opt.step();
    t.feed(first);
    t.opt.step();
  }
  const std::size_t noise = t.log.noise.size();
  t.feed(second, {.token = token});
  CHECK_THROWS_WITH(t.opt.step(), "begin(): this sampling token served an earlier step; draw a new batch");
  CHECK(t.log.noise.size() == noise); // nothing of it was released
  t.feed(second, {.token = {sampling_scheme::poisson, 0.1, 6}});
  CHECK(t.opt.step());
}

TEMPLATE_TEST_CASE("tokens may not be mixed within a step", "", as_ready, at_step) {
  trainer<TestType> t;
  const std::string text = "begin(): the sampling token differs from that of the parts before it in this step; a step "
                           "takes one Poisson-sampled logical batch";
  SECTION("two batches") {
    t.feed(second, {.last = false, .token = {sampling_scheme::poisson, 0.1, 1}});
    t.feed(third, {.token = {sampling_scheme::poisson, 0.1, 2}});
  }
  SECTION("a sampled and an unsampled part") {
    t.feed(second, {.last = false, .token = {sampling_scheme::poisson, 0.1, 1}});
    t.feed(third);
  }
  SECTION("also across a skipped step") {
    t.opt.signal_skip_step();
    t.feed(second, {.token = {sampling_scheme::poisson, 0.1, 1}});
    t.opt.step();
    t.feed(third, {.token = {sampling_scheme::poisson, 0.1, 2}});
  }
  fails_without_a_trace<state_error>(t, text);
}

TEMPLATE_TEST_CASE("several Poisson-sampled logical batches in one step are refused", "", as_ready, at_step) {
  trainer<TestType> t;
  t.feed(second, {.last = false, .ends_batch = true, .token = {sampling_scheme::poisson, 0.1, 1}});
  t.feed(third, {.token = {sampling_scheme::poisson, 0.1, 1}});
  fails_without_a_trace<state_error>(
      t,
      "a step over several Poisson-sampled logical batches could hold a record twice; make them parts of one logical "
      "batch (.ends_batch = false, one token)");
}
