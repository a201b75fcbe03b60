// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// Mechanisms, accountants and base optimizers that throw.
#include "dpopt/dp_optimizer/dp_optimizer.hpp"

#include "support/catch.hpp"
#include "support/ranks.hpp"
#include "support/trainer.hpp"

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

using namespace dpopt;
using namespace dpopt::test;
using namespace dpopt::test::batches;

// Mechanisms, accountants and optimizers that throw ------------------------------------------------------------------

namespace {

struct full_accountant : probe_accountant {
  int room = 1;
  void record(const gaussian_event& event) {
    if (room-- == 0) throw randomness_error("the budget is spent");
    probe_accountant::record(event);
  }
};

struct exhausted_noise : probe_noise {
  int calls = 0; // that succeed
  void add(const address& where, double std, double* x, isize n) {
    if (calls-- == 0) throw randomness_error("the random stream is exhausted");
    probe_noise::add(where, std, x, n);
  }
};

} // namespace

TEMPLATE_TEST_CASE("what an accountant refuses is not released", "", as_ready, at_step) {
  small_model model;
  journal log;
  dp_optimizer<double, per_layer, probe_noise, full_accountant, expected_batch, TestType> opt(
      model.views(), dp_options{}, per_layer{1.0}, probe_noise{1, &log}, full_accountant{{&log}},
      expected_batch{.expected_batch_size = 1}, TestType{});
  const auto feed = [&] {
    opt.begin({.samples = first.samples});
    first.hand_over(opt);
  };
  feed();
  opt.step();
  const std::vector<double> before = model.values();
  const std::vector<double> gradients = model.released();
  feed();
  CHECK_THROWS_WITH(opt.step(), "the budget is spent");
  CHECK(model.values() == before);
  CHECK(model.released() == gradients);
  CHECK(log.noise.size() == 3);
}

TEMPLATE_TEST_CASE("a mechanism that fails ends the step: nothing is drawn twice, nothing left in the sum", "",
                   as_ready, at_step) {
  small_model model;
  journal log;
  const int succeed = GENERATE(0, 1, 2); // the trial before the release, then the first parameter, ...
  dp_optimizer<double, per_layer, exhausted_noise, probe_accountant, expected_batch, TestType> opt(
      model.views(), dp_options{}, per_layer{{bounds[0], bounds[1], bounds[2]}},
      exhausted_noise{{multiplier, &log}, succeed}, probe_accountant{&log},
      expected_batch{.expected_batch_size = expected_size}, TestType{});
  const auto feed = [&](const small_batch& b) {
    opt.begin({.samples = b.samples});
    b.hand_over(opt);
  };
  const std::vector<double> before = model.values();
  feed(first);
  SECTION("in step()") { CHECK_THROWS_AS(opt.step(), randomness_error); }
  SECTION("in pre_step()") { CHECK_THROWS_AS(opt.pre_step(), randomness_error); }
  SECTION("in add_noise()") { CHECK_THROWS_AS(opt.add_noise(), randomness_error); }
  if (succeed == 0) CHECK(model.values() == before); // found before anything was written
  CHECK(log.charged.size() == 1);
  const auto drawn = log.noise;
  CHECK_THROWS_AS(opt.step(), state_error); // that step is over
  feed(second);
  opt.step();
  CHECK(close(model.released(), trainer<TestType>::released({second})));
  for (const auto& early : drawn) CHECK(log.noise.back().where.step > early.where.step);
}

TEST_CASE("after a release that failed on one rank only, no rank goes on") {
  std::vector<std::string> alone(3);
  const auto errors = run_ranks(3, [&](threads comm) {
    const auto rank = static_cast<std::size_t>(comm.rank());
    small_model model;
    dp_optimizer opt(model.views(), dp_options{}, per_layer{1.0}, exhausted_noise{{multiplier}, rank == 1 ? 1 : 1000},
                     probe_accountant{}, expected_batch{.expected_batch_size = expected_size}, std::move(comm));
    opt.begin({.samples = 0});
    try {
      opt.step();
    } catch (const std::exception& e) {
      alone[rank] = e.what();
    }
    opt.noise().calls = 1000;
    opt.begin({.samples = 0});
    const auto before = model.values();
    try {
      opt.step();
    } catch (...) {
      if (model.values() != before) throw std::logic_error("values changed");
      throw;
    }
  });
  CHECK(alone == std::vector<std::string>{"", "the random stream is exhausted", ""});
  for (const auto& e : errors) CHECK_THAT(error_text(e), contains_text("1 updates (fewer than elsewhere"));
}

TEST_CASE("after a base optimizer threw on one rank only, no rank goes on; after it threw on all, all do") {
  for (const bool everywhere : {false, true}) {
    const auto errors = run_ranks(2, [&](threads comm) {
      small_model model;
      bool broken = everywhere || comm.rank() == 1;
      dp_optimizer opt(
          model.views(), dp_options{}, per_layer{1.0}, probe_noise{multiplier}, probe_accountant{},
          expected_batch{.expected_batch_size = expected_size},
          [&](parameter_update<double>) {
            if (broken) throw std::runtime_error("no");
          },
          std::move(comm));
      opt.begin({.samples = 0});
      try {
        opt.step();
      } catch (const std::runtime_error&) {
      }
      broken = false;
      opt.begin({.samples = 0});
      opt.step();
    });
    for (const auto& e : errors)
      if (everywhere) CHECK(error_text(e).empty());
      else CHECK_THAT(error_text(e), contains_text("fewer than elsewhere"));
  }
}

TEST_CASE("a base optimizer of five lines is given the released gradient, once a parameter and step") {
  small_model model;
  std::vector<std::string> names;
  std::vector<std::uint64_t> steps;
  std::vector<double> given;
  dp_optimizer opt(model.views_without_gradients(), dp_options{}, per_layer{{bounds[0], bounds[1], bounds[2]}},
                   probe_noise{multiplier}, probe_accountant{}, expected_batch{.expected_batch_size = expected_size},
                   [&](parameter_update<double> u) {
                     names.emplace_back(u.name);
                     steps.push_back(u.step);
                     given.insert(given.end(), u.gradient.begin(), u.gradient.end());
                     for (std::size_t i = 0; i < u.value.size(); ++i) u.value[i] -= u.gradient[i];
                   });
  const std::vector<double> before = model.values();
  for (const small_batch& b : {first, second}) {
    opt.begin({.samples = b.samples});
    b.hand_over(opt);
    opt.step();
  }
  CHECK(names == std::vector<std::string>{"weight", "bias", "scale", "weight", "bias", "scale"});
  CHECK(steps == std::vector<std::uint64_t>{0, 0, 0, 1, 1, 1});
  const auto half = given.begin() + small_model::total;
  CHECK(close({given.begin(), half}, trainer<as_ready>::released({first})));
  CHECK(close({half, given.end()}, trainer<as_ready>::released({second})));
  CHECK(close(model.values(), plus(plus(before, {given.begin(), half}, -1), {half, given.end()}, -1)));
}

TEST_CASE("a base optimizer that throws ends the step: nothing is updated twice, and the next step goes on") {
  small_model model;
  bool broken = true;
  int calls = 0;
  journal log;
  dp_optimizer opt(model.views(), dp_options{}, per_layer{{bounds[0], bounds[1], bounds[2]}},
                   probe_noise{multiplier, &log}, probe_accountant{&log},
                   expected_batch{.expected_batch_size = expected_size}, [&](parameter_update<double>) {
                     ++calls;
                     if (broken) throw std::runtime_error("no");
                   });
  opt.begin({.samples = first.samples});
  first.hand_over(opt);
  CHECK_THROWS_WITH(opt.step(), "no");
  CHECK(calls == 1);
  CHECK(opt.updates() == 1);
  CHECK(log.charged.size() == 1);
  CHECK(close(model.released(), trainer<as_ready>::released({first})));
  broken = false;
  calls = 0;
  CHECK_THROWS_AS(opt.step(), state_error);
  CHECK(calls == 0);
  opt.begin({.samples = first.samples});
  first.hand_over(opt);
  CHECK(opt.step());
  CHECK(calls == 3);
  CHECK(opt.updates() == 2);
}
