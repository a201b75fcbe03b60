// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// A child of the training process has the noise's secret and the step's number.
#include "support/catch.hpp"
#include "support/forked.hpp"
#include "support/probes.hpp"

#include "dpopt/dp_optimizer/dp_optimizer.hpp"

#include <cstdint>
#include <optional>
#include <vector>

using namespace dpopt;
using namespace dpopt::test;

namespace {
template <class Opt>
void step(Opt& opt) {
  opt.begin({.samples = 0});
  opt.step();
}
} // namespace

TEST_CASE("a child made by fork() is refused its parent's noise, whatever the mechanism; the parent goes on") {
  small_model model;
  dp_optimizer opt(model.views(), dp_options{}, flat{1.0}, counter_gaussian{.noise_multiplier = 1}, unscaled{});
  step(opt);
  const std::string refused = "the optimizer is used in a process that was forked after it was constructed, and would "
                              "repeat the random numbers of the parent; construct it after fork()";
  const auto before = model.values();
  CHECK(thrown_in_a_child([&] { step(opt); }) == refused);
  opt.begin({.samples = 0});
  CHECK(thrown_in_a_child([&] { opt.step(); }) == refused); // in the middle of a step
  opt.step();
  CHECK(opt.updates() == 2);
  CHECK(model.values() != before);
}

TEST_CASE("a child may go on where the seed is the user's, and with an optimizer of its own") {
  small_model model;
  dp_optimizer opt(model.views(), dp_options{}, flat{1.0}, counter_gaussian{.noise_multiplier = 1, .seed = 3},
                   unscaled{});
  CHECK(thrown_in_a_child([&] { step(opt); }).empty());
  CHECK(thrown_in_a_child([] {
          small_model own;
          dp_optimizer fresh(own.views(), dp_options{}, flat{1.0}, counter_gaussian{.noise_multiplier = 1}, unscaled{});
          step(fresh);
        }).empty());
}
