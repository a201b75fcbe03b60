// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// Every clipper through the device's optimizer against the core's: three steps with masks, weights, scales and empty
// batches. On the integer grid all bits are the core's; float sums differ by the order of their additions.
#include "support/device_trainer.hpp"

#include "support/catch.hpp"

#include "dpopt/accumulation/integer_grid.hpp"
#include "dpopt/clipping/adaptive.hpp"
#include "dpopt/clipping/automatic.hpp"
#include "dpopt/clipping/drop_above.hpp"
#include "dpopt/clipping/norm_quantiles.hpp"
#include "dpopt/clipping/per_group.hpp"
#include "dpopt/clipping/per_layer.hpp"
#include "dpopt/clipping/psac.hpp"
#include "dpopt/clipping/scheduled.hpp"
#include "dpopt/clipping/unit_norm.hpp"
#include "dpopt/core/schedules.hpp"
#include "dpopt/dp_optimizer/dp_optimizer.hpp"
#include "support/toy_training.hpp"

#include <limits>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

using namespace dpopt;
using namespace dpopt::test;
using testing::device_trainer;
using testing::recording_api;

namespace {

struct part {
  std::vector<isize> samples;
  std::vector<double> weights; // none: 1 each
  double scale = 1;
};

const double missing = std::numeric_limits<double>::quiet_NaN();
const std::vector<std::vector<part>> steps = {
    {{{0, 1, 2, 3, 4, 5}, {1, 0, 0.5, 2, missing, 1}, 3}, {{6, 7}, {}}}, // 0: a mask; missing: the sample is dropped
    {{{}, {}}},                                                          // nobody was drawn
    {{{1, 3, 8}, {}, 0.25}, {{}, {}}, {{0, 2, 4}, {0, 0, 1.5}, -2}},
};

/// What a run shows: of each step the released gradient, its noise and sensitivity; the values and what was learned.
template <class T>
struct shown {
  toy_result<T> numbers;
  std::vector<double> noise, learned;
};

template <class T, class Opt>
shown<T> train(toy_model<T>& model, Opt& opt) {
  shown<T> out;
  toy_feeder<T> feeder;
  for (std::size_t s = 0; s < steps.size(); ++s) {
    for (const part& p : steps[s]) {
      opt.begin({.samples = std::ssize(p.samples),
                 .last = &p == &steps[s].back(),
                 .gradient_scale = p.scale,
                 .weights = p.weights.empty() ? nullptr : p.weights.data()});
      feeder.hand_over(opt, static_cast<isize>(s), p.samples, s + 1);
    }
    opt.step();
    out.numbers.released.push_back(model.all_gradients());
    out.noise.insert(out.noise.end(), {opt.noise_std(), opt.sensitivity(), opt.epsilon(1e-5)});
  }
  out.numbers.values = model.all_values();
  if constexpr (requires { opt.clipper().state(); }) out.learned = opt.clipper().state();
  return out;
}

const counter_gaussian noise{.noise_multiplier = 0.7, .seed = 20};
const expected_batch scaling{.expected_batch_size = across_ranks{8.0}};

/// (the core's, the device's) run with sums in T, or on the integer grid.
template <class T, class HostSum, class DeviceSum, class Clipper>
std::pair<shown<T>, shown<T>> train_both(const Clipper& clipper, HostSum host_sum, DeviceSum device_sum) {
  toy_model<T> a(toy_sizes()), b(toy_sizes());
  dp_optimizer host(a.views(), dp_options{}, Clipper(clipper), noise, scaling, sgd{.momentum = 0.9}, host_sum);
  device_trainer device(b.views(), dp_options{}, recording_api{}, Clipper(clipper), noise, scaling,
                        sgd{.momentum = 0.9}, device_sum);
  return {train(a, host), train(b, device)};
}

template <class Clipper>
void expect_the_core_s_bits(const Clipper& clipper) {
  const auto [host, device] = train_both<double>(clipper, integer_grid{}, cuda::integer_grid{});
  INFO(clipper.describe());
  const bool same = // out of CHECK, which would print the numbers
      device.numbers.released == host.numbers.released && device.numbers.values == host.numbers.values;
  CHECK(same);
  CHECK(device.noise == host.noise);
  CHECK(device.learned == host.learned);
}

template <class Clipper>
void expect_nearly_the_core_s(const Clipper& clipper) {
  const auto [host, device] = train_both<float>(clipper, running_sum<float>{}, cuda::running_sum<float>{});
  INFO(clipper.describe());
  CHECK(distance(device.numbers, host.numbers) <= 1e-6);
  CHECK(device.noise == host.noise);
  CHECK(device.learned == host.learned);
}

const per_group groups{{"ends", {"layer 0", "layer 4"}, 0.9}, {"middle", {"layer 1", "layer 2", "layer 3"}, 0.7}};
const per_layer layers{.max_grad_norm = std::vector<double>{0.9, 0.4, 0.3, 2.0, 0.5}};
const adaptive_options learning{.count_noise_std = 4.0, .expected_batch_size = across_ranks{8.0}, .greatest_bound = 4};
const norm_quantiles_options counting{.edges = geometric_edges(0.1, 10, 5), .count_noise_std = 6.0};

const std::tuple clippers{
    groups,
    automatic{flat{1.5}},
    unit_norm{psac{groups}},
    adaptive{drop_above{layers, 3.0}, learning},
    norm_quantiles{adaptive{automatic{groups}, learning}, counting},
    norm_quantiles{scheduled{groups, exponential_decay{0.8}}, counting},
    scheduled{unit_norm{layers}, step_decay{1, 0.5}},
};

} // namespace

TEST_CASE("on the integer grid every clipper gives the core's bits on a device") {
  std::apply([](const auto&... each) { (expect_the_core_s_bits(each), ...); }, clippers);
}

TEST_CASE("float sums of a device are the core's but for the order of additions, whatever the clipper") {
  expect_nearly_the_core_s(groups);
  expect_nearly_the_core_s(norm_quantiles{adaptive{automatic{groups}, learning}, counting});
}
