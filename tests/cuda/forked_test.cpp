// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// executor only: a child made by fork() has no device.
#include "support/device_trainer.hpp"

#include "support/catch.hpp"
#include "support/forked.hpp"

#include "dpopt/scaling/scaling.hpp"
#include "support/toy_training.hpp"

using namespace dpopt;
using namespace dpopt::test;
using testing::device_trainer;
using testing::recording_api;

TEST_CASE("a child made by fork() is refused its parent's noise on a device's optimizer, too") {
  toy_model<float> model(toy_sizes());
  device_trainer opt(model.views(), dp_options{}, recording_api{}, flat{1.0}, counter_gaussian{.noise_multiplier = 0.7},
                     unscaled{}, sgd{}, cuda::serial{});
  const auto part = [&] { opt.begin({.samples = 0}); };
  CHECK(thrown_in_a_child([&] { opt.step(part); }).find("the optimizer is used in a process that was forked") == 0);
  part();
  CHECK(thrown_in_a_child([&] { opt.step(); }).find("the optimizer is used in a process that was forked") == 0);
  CHECK(opt.step());
}
