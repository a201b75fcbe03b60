// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// Whose memory is whose, and until when.
#include "dpopt/dp_optimizer/dp_optimizer.hpp"

#include "support/catch.hpp"
#include "support/trainer.hpp"

#include <algorithm>
#include <limits>
#include <memory>
#include <string>
#include <vector>

using namespace dpopt;
using namespace dpopt::test;
using namespace dpopt::test::batches;

// Memory: whose is what, and until when ----------------------------------------------------------------------------

TEST_CASE("as_ready: a gradient may be overwritten as soon as gradient_ready returns") {
  trainer<as_ready> t;
  small_batch scratch = first;
  t.begin(scratch);
  for (isize p = 0; p < 3; ++p) {
    t.opt.gradient_ready(p, scratch.source(p));
    auto& rows = scratch.rows[static_cast<std::size_t>(p)];
    rows.assign(rows.size(), std::numeric_limits<double>::quiet_NaN());
  }
  t.opt.step();
  CHECK(close(t.model.released(), trainer<as_ready>::released({first})));
}

TEST_CASE("at_step: gradients may be overwritten after pre_step()") {
  trainer<at_step> t;
  small_batch scratch = first;
  t.feed(scratch);
  t.opt.pre_step();
  scratch.spoil();
  t.opt.step();
  CHECK(close(t.model.released(), trainer<at_step>::released({first})));
}

TEST_CASE("at_step: gradients may be overwritten after the next begin()") {
  trainer<at_step> t;
  small_batch scratch = first;
  t.feed(scratch, {.last = false});
  t.begin(second);
  scratch.spoil();
  second.hand_over(t.opt);
  t.opt.step();
  CHECK(close(t.model.released(), trainer<at_step>::released({first, second})));
}

TEMPLATE_TEST_CASE("weights are read until the microbatch is complete and no longer", "", as_ready, at_step) {
  trainer<TestType> t;
  std::vector<double> weights(static_cast<std::size_t>(first.samples), 1.0);
  t.feed(first, {.weights = weights.data()});
  t.opt.clip_and_accumulate();
  weights.assign(weights.size(), 1e9);
  t.opt.step();
  CHECK(close(t.model.released(), trainer<TestType>::released({first})));
}

TEMPLATE_TEST_CASE("the released gradient shares no memory with the accumulator", "", as_ready, at_step) {
  trainer<TestType> t;
  t.feed(first);
  t.opt.step();
  for (auto& g : t.model.gradients) g.assign(g.size(), 1e6);
  t.feed(second);
  for (auto& g : t.model.gradients) g.assign(g.size(), std::numeric_limits<double>::quiet_NaN());
  t.opt.step();
  CHECK(close(t.model.released(), trainer<TestType>::released({second})));
  t.feed(first);
  t.opt.pre_step();
  for (auto& g : t.model.gradients) g.assign(g.size(), 0.0); // as a trainer does that clips what it was given
  t.opt.step();
  t.feed(third);
  t.opt.step();
  CHECK(close(t.model.released(), trainer<TestType>::released({third})));
}

TEMPLATE_TEST_CASE("names are the optimizer's own: the caller's strings may die", "", as_ready, at_step) {
  small_model model;
  auto name = std::make_unique<std::string>("a layer whose name does not fit inside a string object");
  std::vector<parameter_view<double>> views = model.views();
  views[1].name = *name;
  typename trainer<TestType>::optimizer opt(views, dp_options{}, per_layer{1.0}, probe_noise{}, probe_accountant{},
                                            expected_batch{.expected_batch_size = 1}, sgd{}, TestType{});
  std::fill(name->begin(), name->end(), '?');
  name.reset();
  opt.begin({.samples = 1});
  opt.gradient_absent(0);
  opt.gradient_absent(2);
  CHECK_THROWS_WITH(opt.step(),
                    "no gradient for 'a layer whose name does not fit inside a string object' in a microbatch "
                    "of this step; call gradient_ready, or gradient_absent for an unused parameter");
  CHECK(opt.describe().find("a layer whose name does not fit inside a string object[2]") != std::string::npos);
}

TEMPLATE_TEST_CASE("an optimizer may die in the middle of a step, and lets go of its parameters", "", as_ready,
                   at_step) {
  small_model model;
  const auto make = [&] {
    return std::make_unique<typename trainer<TestType>::optimizer>(
        model.views(), dp_options{}, per_layer{1.0}, probe_noise{}, probe_accountant{},
        expected_batch{.expected_batch_size = 1}, sgd{}, TestType{});
  };
  for (int round = 0; round < 3; ++round) {
    auto opt = make();
    CHECK_THROWS_AS(make(), invalid_argument);
    opt->begin({.samples = first.samples});
    if (round > 0) first.hand_over(*opt);
    if (round > 1) opt->pre_step();
    opt.reset();
    CHECK_NOTHROW(make());
  }
}

TEMPLATE_TEST_CASE("counts of samples are of the last step, and private by name", "", as_ready, at_step) {
  trainer<TestType> t;
  small_batch with_accident = first;
  with_accident.rows[2][1] = std::numeric_limits<double>::quiet_NaN();
  t.feed(with_accident);
  CHECK(t.opt.private_sample_counts().samples == 0);
  t.opt.step();
  CHECK(t.opt.private_sample_counts().samples == 3 * first.samples);
  CHECK(t.opt.private_sample_counts().non_finite == 1);
  CHECK(t.opt.private_sample_counts().clipped > 0);
  t.opt.begin({.samples = 0});
  t.opt.step();
  CHECK(t.opt.private_sample_counts().samples == 0);
}

// Flat clipping, whose factors wait for the last parameter -----------------------------------------------------------

TEMPLATE_TEST_CASE("flat: one factor for all parameters, noise for one bound, in any order of arrival", "", as_ready,
                   at_step) {
  small_model model;
  journal log;
  dp_optimizer<double, flat, probe_noise, probe_accountant, expected_batch, TestType> opt(
      model.views(), dp_options{}, flat{1.25}, probe_noise{2, &log}, probe_accountant{&log},
      expected_batch{.loss_reduction = loss_reduction::sum}, TestType{});
  small_batch scratch = first;
  opt.begin({.samples = first.samples, .last = false});
  for (const isize p : {isize{1}, isize{2}, isize{0}}) opt.gradient_ready(p, scratch.source(p));
  if constexpr (TestType::deferred) opt.clip_and_accumulate();
  scratch.spoil(); // the group is complete
  opt.begin({.samples = second.samples});
  second.hand_over(opt);
  opt.step();
  CHECK(close(model.released(), plus(plus(first.clipped_flat(1.25), second.clipped_flat(1.25)), 2 * 1.25)));
}
