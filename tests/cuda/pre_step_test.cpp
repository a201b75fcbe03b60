// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// A device's step in halves: pre_step(), hooks and closures mean what the core's mean, and give the bits of step().
#include "support/device_trainer.hpp"

#include "support/catch.hpp"

#include "dpopt/clipping/per_layer.hpp"
#include "dpopt/dp_optimizer/dp_optimizer.hpp"
#include "dpopt/optimizers/adam.hpp"
#include "dpopt/sodium/hardened_gaussian.hpp"
#include "support/toy_training.hpp"

#include <algorithm>
#include <cstddef>
#include <memory>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <vector>

using namespace dpopt;
using namespace dpopt::test;
using testing::device_trainer;
using testing::recording_api;

namespace {

const counter_gaussian noise{.noise_multiplier = 0.7, .seed = 20};
const expected_batch scaling{.expected_batch_size = across_ranks{8.0}};

/// One rank with a model of its own, whose views name gradient arrays or do not.
template <class T, class Base, class Noise = counter_gaussian, class Sum = cuda::running_sum<T>>
struct trainer {
  recording_api device{7};
  toy_model<T> model{toy_sizes()};
  toy_feeder<T> feeder;
  device_trainer<T, recording_api, per_layer, Noise, expected_batch, Base, Sum> opt;

  explicit trainer(Base base, Noise with = noise, bool arrays = true)
      : opt(views(arrays), dp_options{}, device, per_layer{.max_grad_norm = 0.6}, with, scaling, base, Sum()) {
    for (auto& g : model.gradients) device.lend(g.data(), g.size() * sizeof(T));
  }

  [[nodiscard]] std::vector<parameter_view<T>> views(bool arrays) {
    auto out = model.views();
    if (!arrays)
      for (auto& v : out) v.gradient = {};
    return out;
  }
  void feed(isize step) { feeder.feed(opt, step, {{0, 1, 2}, {3, 4, 5, 6}}); }
  [[nodiscard]] std::vector<T> released() {
    std::vector<T> out;
    for (isize p = 0; p < std::ssize(toy_sizes()); ++p) {
      const auto g = opt.released_gradient(p);
      out.insert(out.end(), g.begin(), g.end());
    }
    return out;
  }
  [[nodiscard]] std::vector<T> values() const { return model.all_values(); }
};
using plain_trainer = trainer<float, adam>;
const adam with_adam{.learning_rate = 0.05};

template <class T>
bool same(const std::vector<T>& a, const std::vector<T>& b) { // out of CHECK, which would print the numbers
  return a == b;
}

/// Three steps by step() alone and three in halves, the middle one with a hook.
template <class Whole, class Halves>
void expect_the_same(Whole& whole, Halves& halves) {
  int hooks = 0;
  for (isize s = 0; s < 3; ++s) {
    whole.feed(s);
    halves.feed(s);
    const auto before = halves.values();
    if (s == 1) halves.opt.attach_step_hook([&](auto&) { ++hooks; });
    else CHECK(halves.opt.pre_step());
    if (s != 1) CHECK(same(halves.values(), before));
    whole.opt.step();
    if (s != 1) CHECK(same(halves.released(), whole.model.all_gradients()));
    halves.opt.step();
    CHECK(same(halves.released(), whole.model.all_gradients())); // still there, as with step() alone
    CHECK(same(halves.values(), whole.values()));
    if (s == 1) halves.opt.attach_step_hook({});
  }
  CHECK(hooks == 1);
  CHECK(halves.opt.updates() == 3);
}

} // namespace

TEST_CASE("a step in halves gives the bits of a whole one on a device, with arrays for gradients and without") {
  plain_trainer whole(with_adam), halves(with_adam), bare(with_adam, noise, false), again(with_adam);
  expect_the_same(whole, halves);
  expect_the_same(again, bare);
  CHECK(same(bare.model.all_gradients(), std::vector<float>(bare.values().size(), 0))); // nobody named those
}

TEST_CASE("a step in halves gives the bits of a whole one on the integer grid, with noise of the host") {
  using on_grid = trainer<double, sgd, hardened_gaussian, cuda::integer_grid>;
  on_grid whole(sgd{.momentum = 0.9}, {.noise_multiplier = 0.7}),
      halves(sgd{.momentum = 0.9}, {.noise_multiplier = 0.7});
  std::ranges::copy(whole.opt.noise().secret(), halves.opt.noise().secret().begin());
  expect_the_same(whole, halves);
}

TEST_CASE("pre_step() then begin() on a device: the trainer has used the released gradient itself") {
  plain_trainer t(with_adam), other(with_adam);
  const auto before = t.values();
  CHECK(t.opt.pre_step([&] { t.feed(0); }));
  const auto first = t.released();
  t.opt.zero_grad(); // that step is over
  CHECK(same(t.model.all_gradients(), std::vector<float>(before.size(), 0)));
  CHECK(t.opt.pre_step([&] { t.feed(0); }));
  CHECK(t.opt.pre_step()); // the same release
  CHECK_THROWS_WITH(t.opt.discard(), contains_text("was released already"));
  CHECK_FALSE(same(t.released(), first)); // the same samples under other noise
  CHECK(same(t.values(), before));
  CHECK(t.opt.releases() == 2);
  CHECK(t.opt.updates() == 0);
  t.feed(1);
  t.opt.step();
  CHECK(t.opt.updates() == 1);
  CHECK(t.opt.releases() == 3);
  t.opt.signal_skip_step();
  CHECK_FALSE(t.opt.pre_step([&] { t.feed(2); }));
  CHECK_THROWS_AS(t.opt.released_gradient(5), invalid_argument);
}

TEST_CASE("the hook of a device sees the release before the update, once, and cannot end its step") {
  plain_trainer t(with_adam);
  const auto before = t.values();
  int calls = 0;
  bool refused = true, visible = false;
  std::vector<float> seen;
  t.opt.attach_step_hook([&](auto& opt) {
    ++calls;
    seen = t.released();
    visible = same(t.values(), before);
    for (const int what : {0, 1, 2, 3}) {
      try {
        if (what == 0) opt.step();
        if (what == 1) opt.pre_step();
        if (what == 2) opt.begin({});
        if (what == 3) opt.zero_grad();
        refused = false;
      } catch (const state_error&) {
      }
    }
    throw std::out_of_range("the hook broke");
  });
  t.feed(0);
  CHECK_THROWS_AS(t.opt.step(), std::out_of_range);
  CHECK(t.opt.step()); // goes on with the update
  CHECK(calls == 1);
  CHECK(refused);
  CHECK(visible);
  plain_trainer undisturbed(with_adam);
  undisturbed.feed(0);
  undisturbed.opt.step();
  CHECK(same(seen, undisturbed.model.all_gradients()));
  CHECK(same(t.values(), undisturbed.values()));
}

TEST_CASE("step(closure) of a device hands over what the closure returns, and its exception") {
  plain_trainer t(with_adam);
  const std::unique_ptr<int> got = t.opt.step([&] {
    t.feed(0);
    return std::make_unique<int>(7);
  });
  CHECK(*got == 7);
  STATIC_REQUIRE(std::is_void_v<decltype(t.opt.step([] {}))>);
  const auto before = t.values();
  t.opt.pre_step([&] { t.feed(1); });
  CHECK_THROWS_AS(t.opt.step([]() -> double { throw std::out_of_range("loss"); }), std::out_of_range);
  CHECK(same(t.values(), before)); // the release before was over
}

TEST_CASE("a captured pre_step() that is replayed releases nothing, and a captured update moves nothing") {
  plain_trainer t(with_adam), undisturbed(with_adam);
  for (isize s = 0; s < 3; ++s) {
    undisturbed.feed(s);
    undisturbed.opt.step();
    t.device.capture(s == 1);
    t.feed(s);
    t.opt.pre_step();
    if (s == 1) {
      const auto gradients = t.model.gradients;
      for (auto& g : t.model.gradients) std::ranges::fill(g, 42.0f); // the same samples give the same release
      CHECK(t.device.replay() > 10);
      CHECK(same(t.released(), std::vector<float>(t.values().size(), 42.0f)));
      for (std::size_t p = 0; p < gradients.size(); ++p) std::ranges::copy(gradients[p], t.model.gradients[p].begin());
    }
    t.device.capture(s == 1);
    t.opt.step();
    if (s == 1) CHECK(t.device.replay() == 2);
    CHECK(same(t.values(), undisturbed.values()));
  }
}

TEST_CASE("a half that the device refuses ends the step: values stay, samples are dropped, noise is not used again") {
  for (const char* call : {"permit_release", "release_once, gradients", "permit_update", "release_once, update"}) {
    plain_trainer t(with_adam), undisturbed(with_adam);
    const auto before = t.values();
    t.feed(0);
    t.device.fail_next(call);
    std::string error;
    try {
      t.opt.pre_step();
      t.opt.step();
    } catch (const cuda::device_error& e) {
      error = e.what();
    }
    INFO(call);
    CHECK(error.find(call) != std::string::npos);
    CHECK(same(t.values(), before));
    t.feed(1);
    t.opt.pre_step();
    undisturbed.feed(0); // the same number of the stream
    undisturbed.opt.step();
    undisturbed.feed(1);
    undisturbed.opt.step();
    CHECK(same(t.released(), undisturbed.model.all_gradients()));
    t.opt.step();
    CHECK(t.opt.updates() == 1);
    CHECK_FALSE(same(t.values(), before));
  }
}
