// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// Every way to skip, repeat or mix the calls of a step, on one process; closures_test.cpp and lifetimes_test.cpp hold
// more. Errors on several ranks: ranks_test.cpp.
#include "dpopt/dp_optimizer/dp_optimizer.hpp"

#include "support/catch.hpp"
#include "support/trainer.hpp"

#include <limits>
#include <string>
#include <type_traits>
#include <vector>

using namespace dpopt;
using namespace dpopt::test;
using namespace dpopt::test::batches;

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
  SECTION("by step()") { fails_without_a_trace<state_error>(t, text, budget::untouched); }
  SECTION("by the others") {
    CHECK_THROWS_AS(t.opt.pre_step(), state_error);
    CHECK_THROWS_WITH(t.opt.pre_step(), text);
    CHECK_THROWS_WITH(t.opt.add_noise(), text);
    CHECK_THROWS_AS(t.opt.pre_step([] {}), state_error);
    CHECK_THROWS_AS(t.opt.step([] {}), state_error);
    fails_without_a_trace<state_error>(t, text, budget::untouched);
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
    fails_without_a_trace<state_error>(t,
                                       "no gradient for 'bias' in a microbatch of this step; call gradient_ready, or "
                                       "gradient_absent for an unused parameter");
  }
  SECTION("several, in the second microbatch") {
    t.feed(second, {.last = false});
    t.begin(third);
    t.opt.gradient_ready(1, third.source(1));
    fails_without_a_trace<state_error>(t, "no gradient for 'weight', 'scale' in a microbatch of this step; call "
                                          "gradient_ready, or gradient_absent for an unused parameter");
  }
  SECTION("when the next microbatch begins") {
    t.begin(second, {.last = false});
    t.opt.gradient_ready(1, second.source(1));
    t.opt.gradient_ready(2, second.source(2));
    t.feed(third);
    fails_without_a_trace<state_error>(t, "no gradient for 'weight' in a microbatch of this step; call gradient_ready, "
                                          "or gradient_absent for an unused parameter");
  }
}

TEMPLATE_TEST_CASE("a second gradient for a parameter is an error", "", as_ready, at_step) {
  trainer<TestType> t;
  const std::string text =
      "second gradient for 'bias' in one microbatch; add the uses of a tied parameter up in one source";
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
    fails_without_a_trace<invalid_argument>(
        t, "gradient of 'weight' holds another number of samples than begin() declared "
           "(both are private: look at them where they come from)");
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
  budget b = budget::charged;
  SECTION("before begin()") {
    b = budget::untouched; // the error came first, and nothing was taken after it
    t.opt.gradient_ready(0, third.source(0));
    t.feed(third);
  }
  SECTION("after clip_and_accumulate()") {
    t.feed(third);
    t.opt.clip_and_accumulate();
    t.opt.gradient_ready(0, third.source(0));
  }
  fails_without_a_trace<state_error>(t, "gradient of 'weight' came without begin()", b);
}

TEMPLATE_TEST_CASE("begin() after the last microbatch is an error", "", as_ready, at_step) {
  trainer<TestType> t;
  t.feed(second);
  t.feed(third);
  fails_without_a_trace<state_error>(
      t,
      "begin(): the microbatch before this one was declared the last of the step; call step() first, or pass .last = "
      "false to all but the last");
}

TEMPLATE_TEST_CASE("a declaration must make sense", "", as_ready, at_step) {
  trainer<TestType> t;
  SECTION("samples") {
    t.opt.begin({.samples = -3});
    fails_without_a_trace<invalid_argument>(t, "begin(): samples is -3; give 0 or more", budget::untouched);
  }
  SECTION("gradient_scale") {
    t.feed(third, {.gradient_scale = std::numeric_limits<double>::quiet_NaN()});
    fails_without_a_trace<invalid_argument>(t, "begin(): gradient_scale is nan; give a finite number",
                                            budget::untouched);
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
        t, "step() without begin(): a rank without samples declares them with begin({.samples = 0})",
        budget::untouched);
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
  fails_without_a_trace<invalid_argument>(t, "gradient_ready: parameter 3 does not exist; there are 3",
                                          budget::untouched);
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
  CHECK(t.log.charged.size() == 1); // it was released; the failed one had no batch
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

TEMPLATE_TEST_CASE("pre_step() then begin(): the trainer has used the released gradient itself", "", as_ready,
                   at_step) {
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
    for (isize p = 0; p < 3; ++p)
      all.insert(all.end(), opt.released_gradient(p).begin(), opt.released_gradient(p).end());
    CHECK(close(all, trainer<TestType>::released({b})));
    opt.step();
  }
  CHECK(model.values() == undisturbed<TestType>({first, second}));
}
