// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// The trainer's own code inside a step: closures and the step hook.
#include "dpopt/dp_optimizer/dp_optimizer.hpp"

#include "support/catch.hpp"
#include "support/trainer.hpp"

#include <memory>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

using namespace dpopt;
using namespace dpopt::test;
using namespace dpopt::test::batches;

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

TEMPLATE_TEST_CASE("pre_step(closure) runs the closure and says whether something was released", "", as_ready,
                   at_step) {
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
  std::size_t charged = 1; // on another rank noise may be out
  SECTION("before it fed anything") {
    charged = 0;
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
  CHECK(t.log.charged.size() == charged);
  CHECK(t.log.noise.empty());
  t.opt.step([&] { t.feed(first); });
  CHECK(close(t.model.released(), trainer<TestType>::released({first})));
  CHECK(t.model.values() == undisturbed<TestType>({first}));
}

TEMPLATE_TEST_CASE("an exception of the closure in a skipped step is reported by the real one", "", as_ready, at_step) {
  trainer<TestType> t;
  t.opt.signal_skip_step();
  CHECK(t.opt.step([]() -> double { throw std::out_of_range("loss"); }) == 0.0); // it has no value to give
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
    for (isize p = 0; p < 3; ++p)
      seen.insert(seen.end(), opt.released_gradient(p).begin(), opt.released_gradient(p).end());
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

TEST_CASE("a hook cannot start or end a step: the update would be applied twice") {
  trainer<as_ready> t;
  std::vector<std::string> refused;
  t.opt.attach_step_hook([&](auto& opt) {
    const auto attempt = [&](auto&& f) {
      try {
        f();
      } catch (const state_error& e) {
        refused.push_back(e.what());
      }
    };
    attempt([&] { opt.step(); });
    attempt([&] { opt.pre_step(); });
    attempt([&] { opt.begin({.samples = 0}); });
    attempt([&] { opt.zero_grad(); });
    attempt([&] { opt.step([&] { second.hand_over(opt); }); });
    attempt([&] { opt.pre_step([&] { second.hand_over(opt); }); });
  });
  t.feed(first);
  t.opt.step();
  REQUIRE(refused.size() == 6);
  CHECK(refused[4].find("a step with a closure was called by the step hook") == 0);
  CHECK(refused[0].find("step() was called by the step hook") == 0);
  CHECK(t.opt.updates() == 1);
  CHECK(t.model.values() == undisturbed<as_ready>({first}));
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
