// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// Every way to skip, repeat or mix the calls of a step, on one process. Errors on several ranks: ranks_test.cpp.
#include "dpopt/dp_optimizer/dp_optimizer.hpp"

#include "dpopt/clipping/per_layer.hpp"
#include "support/catch.hpp"
#include "support/probes.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <memory>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

using namespace dpopt;
using namespace dpopt::test;

namespace {

constexpr std::array<double, 3> bounds{0.9, 0.4, 0.3};
constexpr double multiplier = 0.5;
constexpr double expected_size = 8;
const double layered_std = multiplier * std::sqrt(0.9 * 0.9 + 0.4 * 0.4 + 0.3 * 0.3);

// A model, an optimizer on it and what the probes saw. sgd with momentum, so that a step that should not have happened
// shows in the steps after it.
template <class When>
struct trainer {
  using optimizer = dp_optimizer<double, per_layer, probe_noise, probe_accountant, expected_batch, sgd, When>;
  small_model model;
  journal log;
  optimizer opt;

  trainer()
      : opt(model.views(), dp_options{}, per_layer{{bounds[0], bounds[1], bounds[2]}}, probe_noise{multiplier, &log},
            probe_accountant{&log}, expected_batch{.expected_batch_size = expected_size},
            sgd{.learning_rate = 0.1, .momentum = 0.9}, When{}) {}

  void begin(const small_batch& b, microbatch m = {}) {
    m.samples = b.samples;
    opt.begin(m);
  }
  void feed(const small_batch& b, microbatch m = {}) {
    begin(b, m);
    b.hand_over(opt);
  }
  // What a step over these batches must release.
  static std::vector<double> released(const std::vector<small_batch>& batches, double iterations = 1) {
    std::vector<double> sum(small_model::total, 0.0);
    for (const small_batch& b : batches) sum = plus(sum, b.clipped_per_layer(bounds));
    return over(plus(sum, layered_std), expected_size * iterations);
  }
};

const small_batch first(5, 1);
const small_batch second(4, 2);
const small_batch third(6, 3);

// The values after steps over these batches, one batch a step, without anything in between.
template <class When>
std::vector<double> undisturbed(const std::vector<small_batch>& batches) {
  trainer<When> t;
  for (const small_batch& b : batches) {
    t.feed(b);
    t.opt.step();
  }
  return t.model.values();
}

// step() throws E with this text; nothing is released, and the next steps are those of a run in which it never happened.
template <class E, class When>
void fails_without_a_trace(trainer<When>& t, const std::string& text) {
  const std::vector<double> before = t.model.values();
  const std::vector<double> gradients = t.model.released();
  const std::uint64_t updates = t.opt.updates();
  const std::size_t charged = t.log.charged.size();
  bool thrown = false;
  try {
    t.opt.step();
  } catch (const E& e) {
    thrown = true;
    CHECK(std::string(e.what()) == text);
  }
  CHECK(thrown);
  CHECK(t.model.values() == before);
  CHECK(t.model.released() == gradients);
  CHECK(t.opt.updates() == updates);
  CHECK(t.log.noise.empty());
  CHECK(t.log.charged.size() == charged + 1); // the budget stays charged: on other ranks noise may be out
  t.feed(first);
  CHECK(t.opt.step());
  CHECK(close(t.model.released(), trainer<When>::released({first})));
  t.feed(second);
  CHECK(t.opt.step());
  CHECK(t.model.values() == undisturbed<When>({first, second}));
  CHECK(t.log.charged.size() == charged + 3);
}

} // namespace

// The plain course of things --------------------------------------------------------------------------------------

TEMPLATE_TEST_CASE("a step releases (clipped sum + noise) / expected size and applies it once", "", as_ready, at_step) {
  trainer<TestType> t;
  const std::vector<double> before = t.model.values();
  t.feed(first);
  CHECK(t.model.values() == before); // nothing moves before step()
  CHECK(t.opt.step());
  const std::vector<double> expected = trainer<TestType>::released({first});
  CHECK(close(t.model.released(), expected));
  CHECK(close(t.model.values(), plus(before, expected, -0.1)));
  CHECK(t.opt.updates() == 1);
  CHECK(t.opt.noise_std() == Approx(layered_std / expected_size));
  CHECK(t.opt.sensitivity() == Approx(layered_std / multiplier));
  CHECK_FALSE(t.opt.last_step_skipped());
}

TEST_CASE("both schedules give the same bits, in any order of arrival and with several microbatches") {
  trainer<as_ready> now;
  trainer<at_step> later;
  trainer<as_ready> mixed;
  for (int step = 0; step < 3; ++step) {
    const small_batch a(3, 10 + step);
    const small_batch b(0, 20 + step);
    const small_batch c(4, 30 + step);
    for (const small_batch* part : {&a, &b, &c}) {
      const bool last = part == &c;
      now.feed(*part, {.last = last});
      later.feed(*part, {.last = last});
      mixed.begin(*part, {.last = last});
      for (const isize p : {isize{1}, isize{0}, isize{2}}) mixed.opt.gradient_ready(p, part->source(p));
    }
    now.opt.step();
    later.opt.step();
    mixed.opt.step();
    CHECK(close(now.model.released(), trainer<as_ready>::released({a, c})));
    CHECK(later.model.released() == now.model.released());
    CHECK(mixed.model.released() == now.model.released());
  }
  CHECK(later.model.values() == now.model.values());
  CHECK(mixed.model.values() == now.model.values());
}

TEMPLATE_TEST_CASE("a batch without samples gets its noise all the same", "", as_ready, at_step) {
  trainer<TestType> t;
  SECTION("without gradients") { t.opt.begin({.samples = 0}); }
  SECTION("with gradients of no samples") { t.feed(small_batch(0)); }
  CHECK(t.opt.step());
  CHECK(close(t.model.released(), trainer<TestType>::released({})));
  CHECK(t.log.charged.size() == 1);
}

TEMPLATE_TEST_CASE("an absent parameter counts as zero and still gets noise", "", as_ready, at_step) {
  trainer<TestType> t;
  t.begin(first);
  t.opt.gradient_ready(2, first.source(2));
  t.opt.gradient_absent(1);
  t.opt.gradient_ready(0, first.source(0));
  CHECK(t.opt.step());
  small_batch without_bias = first;
  without_bias.rows[1].assign(without_bias.rows[1].size(), 0.0);
  CHECK(close(t.model.released(), trainer<TestType>::released({without_bias})));
}

TEST_CASE("an optimizer can neither be copied nor moved: reductions and the claim refer to it") {
  STATIC_REQUIRE_FALSE(std::is_move_constructible_v<trainer<as_ready>::optimizer>);
  STATIC_REQUIRE_FALSE(std::is_copy_constructible_v<trainer<as_ready>::optimizer>);
  STATIC_REQUIRE_FALSE(std::is_move_assignable_v<trainer<as_ready>::optimizer>);
}

// Wrong calls, found at step() -------------------------------------------------------------------------------------

TEMPLATE_TEST_CASE("step() without begin() is an error", "", as_ready, at_step) {
  trainer<TestType> t;
  const std::string text = "step() without begin(): a rank without samples declares them with begin({.samples = 0})";
  SECTION("by step()") { fails_without_a_trace<state_error>(t, text); }
  SECTION("by the others") {
    CHECK_THROWS_AS(t.opt.pre_step(), state_error);
    CHECK_THROWS_WITH(t.opt.pre_step(), text);
    CHECK_THROWS_WITH(t.opt.add_noise(), text);
    CHECK_THROWS_AS(t.opt.pre_step([] {}), state_error);
    CHECK_THROWS_AS(t.opt.step([] {}), state_error);
    fails_without_a_trace<state_error>(t, text);
  }
}

TEMPLATE_TEST_CASE("step() twice is an error the second time", "", as_ready, at_step) {
  trainer<TestType> t;
  t.feed(first);
  t.opt.step();
  const std::vector<double> after = t.model.values();
  CHECK_THROWS_AS(t.opt.step(), state_error);
  CHECK(t.model.values() == after);
}

TEMPLATE_TEST_CASE("missing gradients are named", "", as_ready, at_step) {
  trainer<TestType> t;
  SECTION("one") {
    t.begin(third);
    t.opt.gradient_ready(0, third.source(0));
    t.opt.gradient_ready(2, third.source(2));
    fails_without_a_trace<state_error>(t, "no gradient for 'bias' in microbatch 1 of this step; call gradient_ready, or "
                                          "gradient_absent for an unused parameter");
  }
  SECTION("several, in the second microbatch") {
    t.feed(second, {.last = false});
    t.begin(third);
    t.opt.gradient_ready(1, third.source(1));
    fails_without_a_trace<state_error>(t, "no gradient for 'weight', 'scale' in microbatch 2 of this step; call "
                                          "gradient_ready, or gradient_absent for an unused parameter");
  }
  SECTION("when the next microbatch begins") {
    t.begin(second, {.last = false});
    t.opt.gradient_ready(1, second.source(1));
    t.opt.gradient_ready(2, second.source(2));
    t.feed(third);
    fails_without_a_trace<state_error>(t, "no gradient for 'weight' in microbatch 1 of this step; call gradient_ready, "
                                          "or gradient_absent for an unused parameter");
  }
}

TEMPLATE_TEST_CASE("a second gradient for a parameter is an error", "", as_ready, at_step) {
  trainer<TestType> t;
  const std::string text = "second gradient for 'bias' in one microbatch; add the uses of a tied parameter up in one source";
  t.begin(third);
  SECTION("twice the same") {
    t.opt.gradient_ready(1, third.source(1));
    t.opt.gradient_ready(1, third.source(1));
  }
  SECTION("after it was declared absent") {
    t.opt.gradient_absent(1);
    t.opt.gradient_ready(1, third.source(1));
  }
  SECTION("declared absent afterwards") {
    t.opt.gradient_ready(1, third.source(1));
    t.opt.gradient_absent(1);
  }
  t.opt.gradient_ready(0, third.source(0));
  t.opt.gradient_ready(2, third.source(2));
  fails_without_a_trace<state_error>(t, text);
}

TEMPLATE_TEST_CASE("gradients that do not fit are refused by name", "", as_ready, at_step) {
  trainer<TestType> t;
  t.begin(third);
  SECTION("another number of samples than declared") {
    t.opt.gradient_ready(0, second.source(0));
    fails_without_a_trace<invalid_argument>(t, "gradient of 'weight' holds 4 samples, but begin() declared 6");
  }
  SECTION("another number of elements than the parameter has") {
    t.opt.gradient_ready(1, third.source(0));
    fails_without_a_trace<invalid_argument>(t, "gradient of 'bias' holds 4 elements a sample, but the parameter has 2");
  }
  SECTION("a parameter that does not exist") {
    t.opt.gradient_ready(3, third.source(0));
    fails_without_a_trace<invalid_argument>(t, "gradient_ready: parameter 3 does not exist; there are 3");
  }
  SECTION("a negative one") {
    t.opt.gradient_absent(-1);
    fails_without_a_trace<invalid_argument>(t, "gradient_ready: parameter -1 does not exist; there are 3");
  }
}

TEMPLATE_TEST_CASE("a gradient outside begin() and its microbatch's end is an error", "", as_ready, at_step) {
  trainer<TestType> t;
  SECTION("before begin()") {
    t.opt.gradient_ready(0, third.source(0));
    t.feed(third);
  }
  SECTION("after clip_and_accumulate()") {
    t.feed(third);
    t.opt.clip_and_accumulate();
    t.opt.gradient_ready(0, third.source(0));
  }
  fails_without_a_trace<state_error>(t, "gradient of 'weight' came without begin()");
}

TEMPLATE_TEST_CASE("begin() after the last microbatch is an error", "", as_ready, at_step) {
  trainer<TestType> t;
  t.feed(second);
  t.feed(third);
  fails_without_a_trace<state_error>(
      t, "begin(): the microbatch before this one was declared the last of the step; call step() first, or pass .last = "
         "false to all but the last");
}

TEMPLATE_TEST_CASE("a declaration must make sense", "", as_ready, at_step) {
  trainer<TestType> t;
  SECTION("samples") {
    t.opt.begin({.samples = -3});
    fails_without_a_trace<invalid_argument>(t, "begin(): samples is -3; give 0 or more");
  }
  SECTION("gradient_scale") {
    t.feed(third, {.gradient_scale = std::numeric_limits<double>::quiet_NaN()});
    fails_without_a_trace<invalid_argument>(t, "begin(): gradient_scale is nan; give a finite number");
  }
}

TEMPLATE_TEST_CASE("the first of several mistakes is reported, and one step() clears them all", "", as_ready, at_step) {
  trainer<TestType> t;
  t.begin(third);
  t.opt.gradient_ready(7, third.source(0));
  t.opt.gradient_ready(1, third.source(0));
  t.opt.begin({.samples = -3});
  fails_without_a_trace<invalid_argument>(t, "gradient_ready: parameter 7 does not exist; there are 3");
}

// clip_and_accumulate, discard, zero_grad ---------------------------------------------------------------------------

TEMPLATE_TEST_CASE("clip_and_accumulate() is optional, and harmless any number of times", "", as_ready, at_step) {
  trainer<TestType> t;
  t.opt.clip_and_accumulate();
  t.feed(first, {.last = false});
  t.opt.clip_and_accumulate();
  t.opt.clip_and_accumulate();
  t.feed(second);
  t.opt.clip_and_accumulate();
  t.opt.step();
  CHECK(close(t.model.released(), trainer<TestType>::released({first, second})));
}

TEST_CASE("with at_step, the inputs may be overwritten after clip_and_accumulate()") {
  trainer<at_step> t;
  small_batch scratch = first;
  t.feed(scratch);
  t.opt.clip_and_accumulate();
  scratch.spoil();
  t.opt.step();
  CHECK(close(t.model.released(), trainer<at_step>::released({first})));
}

TEMPLATE_TEST_CASE("discard() drops what was accumulated, and costs nothing", "", as_ready, at_step) {
  trainer<TestType> t;
  t.feed(second, {.last = false});
  t.feed(third, {.last = false});
  t.opt.discard();
  t.opt.discard();
  CHECK(t.log.charged.empty());
  CHECK(t.opt.accumulated_iterations() == 0);
  SECTION("the next step holds only what comes after it") {
    t.feed(first);
    t.opt.step();
    CHECK(close(t.model.released(), trainer<TestType>::released({first})));
  }
  SECTION("and there is no step without a begin()") {
    fails_without_a_trace<state_error>(
        t, "step() without begin(): a rank without samples declares them with begin({.samples = 0})");
  }
}

TEMPLATE_TEST_CASE("discard() in the middle of a microbatch", "", as_ready, at_step) {
  trainer<TestType> t;
  t.begin(third);
  t.opt.gradient_ready(2, third.source(2));
  t.opt.discard();
  t.feed(first);
  t.opt.step();
  CHECK(close(t.model.released(), trainer<TestType>::released({first})));
}

TEMPLATE_TEST_CASE("discard() does not hide an error: other ranks may wait for its report", "", as_ready, at_step) {
  trainer<TestType> t;
  t.begin(third);
  t.opt.gradient_ready(3, third.source(0));
  t.opt.discard();
  fails_without_a_trace<invalid_argument>(t, "gradient_ready: parameter 3 does not exist; there are 3");
}

TEST_CASE("discard() after the reductions began, or after the release, is an error") {
  trainer<as_ready> t;
  const std::string text = "discard(): the last microbatch is already on its way to the other ranks; call step()";
  t.feed(first);
  CHECK_THROWS_AS(t.opt.discard(), state_error);
  CHECK_THROWS_WITH(t.opt.discard(), text);
  t.opt.pre_step();
  CHECK_THROWS_WITH(t.opt.discard(), text);
  t.opt.step();
  CHECK(close(t.model.released(), trainer<as_ready>::released({first})));
  CHECK_NOTHROW(t.opt.discard());
}

TEMPLATE_TEST_CASE("zero_grad() at any moment before the release changes nothing but the gradients", "", as_ready,
                   at_step) {
  trainer<TestType> t;
  t.opt.zero_grad();
  t.feed(first);
  t.opt.step();
  CHECK(t.model.released() != std::vector<double>(7, 0.0));
  t.opt.zero_grad();
  t.opt.zero_grad();
  CHECK(t.model.released() == std::vector<double>(7, 0.0));
  t.begin(second, {.last = false});
  t.opt.zero_grad();
  second.hand_over(t.opt);
  t.opt.zero_grad();
  t.feed(third);
  t.opt.zero_grad();
  t.opt.step();
  CHECK(close(t.model.released(), trainer<TestType>::released({second, third})));
}

TEMPLATE_TEST_CASE("a step clears its own sum: zero_grad() may be forgotten", "", as_ready, at_step) {
  trainer<TestType> t;
  for (const small_batch& b : {first, second, third}) {
    t.feed(b);
    t.opt.step();
    CHECK(close(t.model.released(), trainer<TestType>::released({b})));
  }
}

TEMPLATE_TEST_CASE("zero_grad() after the release drops it, and that step is over", "", as_ready, at_step) {
  trainer<TestType> t;
  const std::vector<double> before = t.model.values();
  t.feed(third);
  SECTION("after pre_step()") { t.opt.pre_step(); }
  SECTION("after add_noise()") { t.opt.add_noise(); }
  t.opt.zero_grad();
  CHECK(t.model.released() == std::vector<double>(7, 0.0));
  CHECK_THROWS_AS(t.opt.step(), state_error);
  CHECK(t.model.values() == before);
  CHECK(t.log.charged.size() == 2); // it was released, and the failed one may have been seen
  t.feed(first);
  t.opt.step();
  CHECK(close(t.model.released(), trainer<TestType>::released({first})));
}

// Virtual steps -----------------------------------------------------------------------------------------------------

TEMPLATE_TEST_CASE("a skipped step only accumulates", "", as_ready, at_step) {
  trainer<TestType> t;
  const std::vector<double> before = t.model.values();
  t.opt.signal_skip_step();
  t.feed(first);
  CHECK_FALSE(t.opt.step());
  CHECK(t.opt.last_step_skipped());
  CHECK(t.model.values() == before);
  CHECK(t.model.released() == std::vector<double>(7, 0.0));
  CHECK(t.log.charged.empty());
  CHECK(t.log.noise.empty());
  t.opt.signal_skip_step(true);
  t.feed(second);
  CHECK_FALSE(t.opt.pre_step());
  t.opt.zero_grad(); // as training loops do
  t.opt.signal_skip_step(false);
  t.feed(third);
  CHECK(t.opt.step());
  CHECK_FALSE(t.opt.last_step_skipped());
  CHECK(close(t.model.released(), trainer<TestType>::released({first, second, third})));
  CHECK(t.log.charged.size() == 1);
  CHECK(t.log.noise.size() == 3); // once a parameter
}

TEMPLATE_TEST_CASE("a signal lasts for one step and can be taken back", "", as_ready, at_step) {
  trainer<TestType> t;
  t.opt.signal_skip_step();
  t.opt.signal_skip_step();
  t.feed(first);
  CHECK_FALSE(t.opt.step());
  t.feed(second);
  CHECK(t.opt.step());
  t.opt.signal_skip_step();
  t.opt.signal_skip_step(false);
  t.feed(third);
  CHECK(t.opt.step());
  CHECK(close(t.model.released(), trainer<TestType>::released({third})));
}

TEMPLATE_TEST_CASE("a signal between a microbatch's first and last gradient is in time", "", as_ready, at_step) {
  trainer<TestType> t;
  t.begin(first);
  t.opt.gradient_ready(0, first.source(0));
  t.opt.signal_skip_step();
  t.opt.gradient_ready(1, first.source(1));
  t.opt.gradient_ready(2, first.source(2));
  CHECK_FALSE(t.opt.step());
  t.feed(second);
  CHECK(t.opt.step());
  CHECK(close(t.model.released(), trainer<TestType>::released({first, second})));
}

TEST_CASE("a signal after the reductions began is an error, with at_step it never is too late") {
  trainer<as_ready> now;
  now.feed(first);
  CHECK_THROWS_AS(now.opt.signal_skip_step(), state_error);
  CHECK_THROWS_WITH(now.opt.signal_skip_step(),
                    "signal_skip_step: reductions of this step have started; signal it before begin()");
  CHECK_NOTHROW(now.opt.signal_skip_step(false));
  CHECK(now.opt.step());
  CHECK(close(now.model.released(), trainer<as_ready>::released({first})));

  trainer<at_step> later;
  later.feed(first);
  later.opt.signal_skip_step();
  CHECK_FALSE(later.opt.step());
  later.feed(second);
  CHECK(later.opt.step());
  CHECK(close(later.model.released(), trainer<at_step>::released({first, second})));
}

TEMPLATE_TEST_CASE("skipped steps alone do not count as logical batches", "", as_ready, at_step) {
  trainer<TestType> t;
  t.opt.signal_skip_step();
  t.feed(first);
  t.opt.step();
  CHECK(t.opt.accumulated_iterations() == 1);
  t.feed(second);
  t.opt.step();
  CHECK(t.opt.accumulated_iterations() == 1);
  CHECK(close(t.model.released(), trainer<TestType>::released({first, second}, 1)));
}

TEMPLATE_TEST_CASE("declared logical batches count, in skipped steps as well", "", as_ready, at_step) {
  trainer<TestType> t;
  t.opt.signal_skip_step();
  t.feed(first, {.ends_batch = true});
  t.opt.step();
  t.feed(second, {.last = false, .ends_batch = true});
  t.feed(third);
  CHECK(t.opt.accumulated_iterations() == 3);
  t.opt.step();
  CHECK(t.opt.accumulated_iterations() == 3); // of the last step, until begin()
  CHECK(close(t.model.released(), trainer<TestType>::released({first, second, third}, 3)));
  t.opt.begin({.samples = 0});
  CHECK(t.opt.accumulated_iterations() == 1);
  t.opt.step();
}

TEMPLATE_TEST_CASE("a real step may follow a skipped one without a begin() of its own", "", as_ready, at_step) {
  trainer<TestType> t;
  t.opt.signal_skip_step();
  t.feed(first);
  t.opt.step();
  CHECK(t.opt.step());
  CHECK(close(t.model.released(), trainer<TestType>::released({first})));
}

TEMPLATE_TEST_CASE("a mistake in a skipped step is reported by the real one", "", as_ready, at_step) {
  trainer<TestType> t;
  t.opt.signal_skip_step();
  t.begin(third);
  t.opt.gradient_ready(1, third.source(0));
  CHECK_FALSE(t.opt.step());
  t.feed(second);
  fails_without_a_trace<invalid_argument>(t, "gradient of 'bias' holds 4 elements a sample, but the parameter has 2");
}

TEMPLATE_TEST_CASE("noise cannot be added to a skipped step", "", as_ready, at_step) {
  trainer<TestType> t;
  t.opt.signal_skip_step();
  t.feed(first);
  CHECK_THROWS_AS(t.opt.add_noise(), state_error);
  CHECK(t.log.noise.empty());
  t.feed(second); // the signal is used up
  t.opt.step();
  CHECK(close(t.model.released(), trainer<TestType>::released({first, second})));
}

// add_noise, scale_grad, pre_step ------------------------------------------------------------------------------------

TEMPLATE_TEST_CASE("a step by hand is the step: add_noise, scale_grad, step", "", as_ready, at_step) {
  trainer<TestType> t;
  const std::vector<double> before = t.model.values();
  const std::vector<double> expected = trainer<TestType>::released({first});
  t.feed(first);
  t.opt.clip_and_accumulate();
  t.opt.add_noise();
  CHECK(close(t.model.released(), plus(first.clipped_per_layer(bounds), layered_std)));
  SECTION("each by itself") {
    t.opt.scale_grad();
    CHECK(close(t.model.released(), expected));
    t.opt.pre_step();
  }
  SECTION("step() divides what was not divided") {}
  SECTION("pre_step() does too") { t.opt.pre_step(); }
  CHECK(t.opt.step());
  CHECK(close(t.model.released(), expected));
  CHECK(close(t.model.values(), plus(before, expected, -0.1)));
  CHECK(t.log.charged.size() == 1);
  CHECK(t.log.noise.size() == 3);
}

TEMPLATE_TEST_CASE("noise is added once: add_noise() a second time is an error and changes nothing", "", as_ready,
                   at_step) {
  trainer<TestType> t;
  t.feed(first);
  t.opt.add_noise();
  CHECK_THROWS_AS(t.opt.add_noise(), state_error);
  CHECK_THROWS_WITH(t.opt.add_noise(), "add_noise(): this step's noise was already added; call step()");
  t.opt.scale_grad();
  CHECK_THROWS_AS(t.opt.add_noise(), state_error);
  t.opt.step();
  CHECK(close(t.model.released(), trainer<TestType>::released({first})));
  CHECK(t.log.noise.size() == 3);
}

TEMPLATE_TEST_CASE("scale_grad() out of its place is an error", "", as_ready, at_step) {
  trainer<TestType> t;
  const std::string text = "scale_grad(): there is no noisy sum to divide; call add_noise() first";
  CHECK_THROWS_AS(t.opt.scale_grad(), state_error);
  t.feed(first);
  CHECK_THROWS_WITH(t.opt.scale_grad(), text);
  t.opt.add_noise();
  t.opt.scale_grad();
  CHECK_THROWS_WITH(t.opt.scale_grad(), text);
  t.opt.step();
  CHECK_THROWS_WITH(t.opt.scale_grad(), text);
  CHECK(close(t.model.released(), trainer<TestType>::released({first})));
}

TEMPLATE_TEST_CASE("begin() between add_noise() and step() is refused at once", "", as_ready, at_step) {
  trainer<TestType> t;
  t.feed(first);
  t.opt.add_noise();
  CHECK_THROWS_AS(t.opt.begin({.samples = 0}), state_error);
  CHECK_THROWS_WITH(t.opt.begin({.samples = 0}), "begin(): the noisy sum was not released; call step() first");
  t.opt.step();
  CHECK(close(t.model.released(), trainer<TestType>::released({first})));
}

TEMPLATE_TEST_CASE("pre_step() then step() is one step", "", as_ready, at_step) {
  trainer<TestType> t;
  const std::vector<double> before = t.model.values();
  t.feed(first);
  CHECK(t.opt.pre_step());
  CHECK(close(t.model.released(), trainer<TestType>::released({first})));
  CHECK(t.model.values() == before);
  CHECK(t.opt.updates() == 0);
  const std::vector<double> once = t.model.released();
  CHECK(t.opt.pre_step()); // again: there is nothing left to do
  CHECK(t.model.released() == once);
  CHECK(t.opt.step());
  CHECK(t.model.released() == once);
  CHECK(t.model.values() == undisturbed<TestType>({first}));
  CHECK(t.log.charged.size() == 1);
  CHECK(t.log.noise.size() == 3);
}

TEMPLATE_TEST_CASE("pre_step() then begin(): the trainer has used the released gradient itself", "", as_ready, at_step) {
  trainer<TestType> t;
  const std::vector<double> before = t.model.values();
  t.feed(first);
  t.opt.pre_step();
  t.feed(second);
  t.opt.pre_step();
  CHECK(close(t.model.released(), trainer<TestType>::released({second})));
  CHECK(t.model.values() == before);
  CHECK(t.log.charged.size() == 2);
  CHECK(t.opt.updates() == 0);
}

TEMPLATE_TEST_CASE("released_gradient() gives the release also where the model has no arrays for it", "", as_ready,
                   at_step) {
  small_model model;
  typename trainer<TestType>::optimizer opt(model.views_without_gradients(), dp_options{},
                                            per_layer{{bounds[0], bounds[1], bounds[2]}}, probe_noise{multiplier},
                                            probe_accountant{}, expected_batch{.expected_batch_size = expected_size},
                                            sgd{.learning_rate = 0.1, .momentum = 0.9}, TestType{});
  for (const small_batch& b : {first, second}) {
    opt.begin({.samples = b.samples});
    b.hand_over(opt);
    opt.pre_step();
    std::vector<double> all;
    for (isize p = 0; p < 3; ++p) all.insert(all.end(), opt.released_gradient(p).begin(), opt.released_gradient(p).end());
    CHECK(close(all, trainer<TestType>::released({b})));
    opt.step();
  }
  CHECK(model.values() == undisturbed<TestType>({first, second}));
}

// Closures ----------------------------------------------------------------------------------------------------------

TEMPLATE_TEST_CASE("step(closure) runs the closure first and hands over what it returns", "", as_ready, at_step) {
  trainer<TestType> t;
  SECTION("a number") {
    CHECK(t.opt.step([&] {
      t.feed(first);
      return 0.25;
    }) == 0.25);
  }
  SECTION("something that only moves") {
    const std::unique_ptr<int> got = t.opt.step([&] {
      t.feed(first);
      return std::make_unique<int>(7);
    });
    CHECK(*got == 7);
  }
  SECTION("a reference gives a copy") {
    std::string loss = "low";
    CHECK(t.opt.step([&]() -> std::string& {
      t.feed(first);
      return loss;
    }) == "low");
  }
  SECTION("nothing") {
    t.opt.step([&] { t.feed(first); });
    STATIC_REQUIRE(std::is_void_v<decltype(t.opt.step([] {}))>);
  }
  CHECK(close(t.model.released(), trainer<TestType>::released({first})));
  CHECK(t.model.values() == undisturbed<TestType>({first}));
}

TEMPLATE_TEST_CASE("pre_step(closure) runs the closure and says whether something was released", "", as_ready, at_step) {
  trainer<TestType> t;
  t.opt.signal_skip_step();
  CHECK_FALSE(t.opt.pre_step([&] { t.feed(first); }));
  CHECK(t.opt.pre_step([&] {
    t.feed(second);
    return 3.5; // the loss; nobody asked for it
  }));
  CHECK(close(t.model.released(), trainer<TestType>::released({first, second})));
}

TEMPLATE_TEST_CASE("an exception of the closure leaves no trace, and comes out as it is", "", as_ready, at_step) {
  trainer<TestType> t;
  const std::vector<double> before = t.model.values();
  SECTION("before it fed anything") {
    CHECK_THROWS_AS(t.opt.step([]() -> double { throw std::out_of_range("loss"); }), std::out_of_range);
  }
  SECTION("after it fed something") {
    CHECK_THROWS_WITH(t.opt.step([&] {
      t.feed(third);
      throw std::runtime_error("the data loader broke");
    }),
                      "the data loader broke");
  }
  SECTION("in the middle of a microbatch, in pre_step") {
    CHECK_THROWS_AS(t.opt.pre_step([&] {
      t.begin(third);
      t.opt.gradient_ready(0, third.source(0));
      throw std::runtime_error("the model broke");
    }),
                    std::runtime_error);
  }
  SECTION("of a type of its own") {
    CHECK_THROWS_AS(t.opt.step([&] {
      t.feed(third);
      throw 42;
    }),
                    int);
  }
  CHECK(t.model.values() == before);
  CHECK(t.log.charged.size() == 1); // on another rank noise may be out
  CHECK(t.log.noise.empty());
  t.opt.step([&] { t.feed(first); });
  CHECK(close(t.model.released(), trainer<TestType>::released({first})));
  CHECK(t.model.values() == undisturbed<TestType>({first}));
}

TEMPLATE_TEST_CASE("an exception of the closure in a skipped step is reported by the real one", "", as_ready, at_step) {
  trainer<TestType> t;
  t.opt.signal_skip_step();
  CHECK_THROWS_AS(t.opt.step([]() -> double { throw std::out_of_range("loss"); }), state_error); // has no value to give
  CHECK_THROWS_AS(t.opt.step([&] { t.feed(second); }), std::out_of_range);
  t.opt.signal_skip_step();
  CHECK_FALSE(t.opt.pre_step([] { throw std::out_of_range("loss"); }));
  t.feed(third);
  CHECK_THROWS_AS(t.opt.step(), std::out_of_range);
  CHECK(t.log.noise.empty());
  t.feed(first);
  t.opt.step();
  CHECK(t.model.values() == undisturbed<TestType>({first}));
}

TEMPLATE_TEST_CASE("a closure begins a step of its own", "", as_ready, at_step) {
  trainer<TestType> t;
  t.feed(first);
  SECTION("after pre_step() the old release is over") {
    t.opt.pre_step();
    const std::vector<double> before = t.model.values();
    CHECK_THROWS_AS(t.opt.step([] { throw std::out_of_range("at once"); }), std::out_of_range);
    CHECK(t.model.values() == before);
    t.opt.step([&] { t.feed(second); });
    CHECK(close(t.model.released(), trainer<TestType>::released({second})));
    CHECK(t.opt.updates() == 1);
  }
  SECTION("between add_noise() and step() it is refused, and does not run") {
    t.opt.add_noise();
    bool ran = false;
    CHECK_THROWS_AS(t.opt.step([&] { ran = true; }), state_error);
    CHECK_THROWS_WITH(t.opt.pre_step([&] { ran = true; }),
                      "closure: the noisy sum of add_noise() was not released; call step() without one first");
    CHECK_FALSE(ran);
    t.opt.step();
    CHECK(close(t.model.released(), trainer<TestType>::released({first})));
  }
}

// The step hook -----------------------------------------------------------------------------------------------------

TEMPLATE_TEST_CASE("the hook is called once a release, with the released gradients and before the update", "", as_ready,
                   at_step) {
  trainer<TestType> t;
  const std::vector<double> before = t.model.values();
  int calls = 0;
  std::vector<double> seen;
  std::vector<double> values_then;
  t.opt.attach_step_hook([&](auto& opt) {
    ++calls;
    seen.clear();
    for (isize p = 0; p < 3; ++p) seen.insert(seen.end(), opt.released_gradient(p).begin(), opt.released_gradient(p).end());
    values_then = t.model.values();
  });
  t.opt.signal_skip_step();
  t.feed(first);
  t.opt.step();
  CHECK(calls == 0); // there was no release
  t.feed(second);
  SECTION("by step()") { t.opt.step(); }
  SECTION("by pre_step(), and not again") {
    t.opt.pre_step();
    CHECK(calls == 1);
    t.opt.pre_step();
    t.opt.step();
  }
  SECTION("by hand") {
    t.opt.add_noise();
    t.opt.scale_grad();
    CHECK(calls == 0);
    t.opt.step();
  }
  CHECK(calls == 1);
  CHECK(close(seen, trainer<TestType>::released({first, second})));
  CHECK(values_then == before);
  CHECK(t.model.values() != before);
  t.feed(third);
  t.opt.step();
  CHECK(calls == 2);
  t.opt.attach_step_hook({});
  t.feed(third);
  t.opt.step();
  CHECK(calls == 2);
}

TEMPLATE_TEST_CASE("a step with a hook gives the bits of a step without", "", as_ready, at_step) {
  trainer<TestType> t;
  t.opt.attach_step_hook([](auto&) {});
  for (const small_batch& b : {first, second, third}) {
    t.feed(b);
    t.opt.step();
  }
  CHECK(t.model.values() == undisturbed<TestType>({first, second, third}));
}

TEMPLATE_TEST_CASE("an exception of the hook leaves the release in place: step() goes on", "", as_ready, at_step) {
  trainer<TestType> t;
  const std::vector<double> before = t.model.values();
  int calls = 0;
  t.opt.attach_step_hook([&](auto&) {
    if (++calls == 1) throw std::runtime_error("the disk is full");
  });
  t.feed(first);
  CHECK_THROWS_WITH(t.opt.step(), "the disk is full");
  CHECK(t.model.values() == before);
  CHECK(close(t.model.released(), trainer<TestType>::released({first})));
  SECTION("and applies it") {
    t.opt.step();
    CHECK(t.model.values() == undisturbed<TestType>({first}));
    CHECK(t.log.charged.size() == 1);
  }
  SECTION("or the trainer gives it up") {
    t.feed(second);
    t.opt.step();
    CHECK(close(t.model.released(), trainer<TestType>::released({second})));
    CHECK(t.log.charged.size() == 2);
  }
}

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
      t, "a step over several Poisson-sampled logical batches could hold a record twice; make them parts of one logical "
         "batch (.ends_batch = false, one token)");
}

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
  CHECK_THROWS_WITH(opt.step(), "no gradient for 'a layer whose name does not fit inside a string object' in microbatch 1 "
                                "of this step; call gradient_ready, or gradient_absent for an unused parameter");
  CHECK(opt.describe().find("a layer whose name does not fit inside a string object[2]") != std::string::npos);
}

TEMPLATE_TEST_CASE("an optimizer may die in the middle of a step, and lets go of its parameters", "", as_ready, at_step) {
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

TEMPLATE_TEST_CASE("a mechanism that fails ends the step: nothing is drawn twice, nothing left in the sum", "", as_ready,
                   at_step) {
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

TEST_CASE("a base optimizer that throws leaves the release in place: step() calls it again") {
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
  CHECK(opt.updates() == 0);
  broken = false;
  calls = 0;
  CHECK(opt.step());
  CHECK(calls == 3);
  CHECK(opt.updates() == 1);
  CHECK(log.charged.size() == 1);
  CHECK(log.noise.size() == 3);
  CHECK(close(model.released(), trainer<as_ready>::released({first})));
}
