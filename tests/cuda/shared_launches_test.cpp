// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// Hundreds of small parameters cost a few launches a step, and the values of one launch each.
#include "support/device_trainer.hpp"

#include "support/catch.hpp"

#include "dpopt/accumulation/integer_grid.hpp"
#include "dpopt/clipping/flat.hpp"
#include "dpopt/clipping/per_group.hpp"
#include "dpopt/clipping/per_layer.hpp"
#include "dpopt/cuda/linear_source.cuh"
#include "dpopt/dp_optimizer/dp_optimizer.hpp"
#include "dpopt/gradients/linear_weight.hpp"
#include "support/toy_training.hpp"

#include <cstddef>
#include <string>
#include <vector>

using namespace dpopt;
using namespace dpopt::test;
using testing::device_trainer;
using testing::recorded_call;
using testing::recording_api;

namespace {

constexpr isize parameters = 200, width = 64;
const counter_gaussian noise{.noise_multiplier = 0.5, .seed = 9};
const expected_batch scaling{.expected_batch_size = across_ranks{5.0}};

std::vector<float> rows_of(isize step, isize p, isize batch) {
  std::vector<float> out;
  for (isize i = 0; i < batch; ++i)
    for (isize k = 0; k < width; ++k) out.push_back(static_cast<float>(toy_gradient(step, i, p, k)));
  return out;
}

/// A step of two microbatches, of 3 samples and of 2; hand_over(optimizer, parameter, rows, batch).
template <class Opt, class HandOver>
std::vector<float> trained(toy_model<float>& model, Opt& opt, HandOver hand_over) {
  std::vector<std::vector<float>> rows;
  for (const isize batch : {3, 2}) {
    opt.begin({.samples = batch, .last = batch == 2});
    for (isize p = 0; p < parameters; ++p) {
      rows.push_back(rows_of(batch, p, batch));
      hand_over(opt, p, rows.back().data(), batch);
    }
  }
  opt.step();
  return model.all_values();
}

template <class Clipper, class Grid>
std::vector<float> on_host(const Clipper& clipper, Grid grid) {
  toy_model<float> model(std::vector<isize>(parameters, width));
  dp_optimizer opt(model.views(), dp_options{}, clipper, noise, scaling, sgd{.learning_rate = 0.5}, grid);
  return trained(model, opt, [](auto& to, isize p, const float* rows, isize batch) {
    to.gradient_ready(p, materialized<float>(rows, batch, width));
  });
}

struct device_run {
  std::vector<float> values;
  isize launches; // of a microbatch
  private_counts counts;
};
template <class Clipper, class Grid, class Source>
device_run on_device(const Clipper& clipper, Grid grid, Source source) {
  recording_api device;
  toy_model<float> model(std::vector<isize>(parameters, width));
  device_trainer opt(model.views(), dp_options{}, device, clipper, noise, scaling, sgd{.learning_rate = 0.5}, grid,
                     cuda::serial{});
  device_run out;
  out.values = trained(model, opt, [&](auto& to, isize p, const float* rows, isize batch) {
    to.gradient_ready(p, source(rows, batch));
  });
  out.launches = (device.count(recorded_call::kind::launch) - 2) / 2; // but for the two of the release
  out.counts = opt.private_sample_counts();
  return out;
}

const auto as_it_comes = [](const float* rows, isize batch) { return cuda::materialized<float>(rows, batch, width); };
const auto as_kept = [](const float* rows, isize batch) {
  return cuda::kept(cuda::materialized<float>(rows, batch, width));
};

bool same(const std::vector<float>& a, const std::vector<float>& b) { return a == b; }

} // namespace

TEST_CASE("200 small parameters cost 7 launches a microbatch under one bound, with the core's values") {
  const device_run floats = on_device(flat{2.0}, cuda::running_sum<float>{}, as_it_comes);
  CHECK(distance(floats.values, on_host(flat{2.0}, running_sum<float>{})) <= 1e-6);
  CHECK(floats.launches == 7); // three of norms, one of factors, three of sums
  const device_run grid = on_device(flat{2.0}, cuda::integer_grid{}, as_it_comes);
  CHECK(same(grid.values, on_host(flat{2.0}, integer_grid{})));
  CHECK(grid.launches == 7);
}

TEST_CASE("200 small parameters with a bound each cost 8 launches a microbatch when they are kept, 600 when not") {
  const per_layer bounds{.max_grad_norm = 0.4};
  const device_run alone = on_device(bounds, cuda::running_sum<float>{}, as_it_comes);
  const device_run together = on_device(bounds, cuda::running_sum<float>{}, as_kept);
  CHECK(alone.launches == 600);
  CHECK(together.launches == 8); // two launches hold all factors
  CHECK(same(together.values, alone.values));
  CHECK(distance(together.values, on_host(bounds, running_sum<float>{})) <= 1e-6);
  CHECK(together.counts.samples == alone.counts.samples);
  CHECK(together.counts.clipped == alone.counts.clipped);
  CHECK(together.counts.clipped > 0);
  const device_run grid = on_device(bounds, cuda::integer_grid{}, as_kept);
  CHECK(same(grid.values, on_host(bounds, integer_grid{})));
  CHECK(grid.launches == 8);
}

TEST_CASE("groups whose parameters arrive in turns share launches, and each is held to its own norm") {
  const per_group tens{[](const parameter_info& p) { return std::string(1, p.name.back()); }, 0.9};
  const device_run together = on_device(tens, cuda::integer_grid{}, as_kept);
  CHECK(same(together.values, on_host(tens, integer_grid{})));
  CHECK(together.launches == 7);
  CHECK(together.counts.clipped > 0);
  CHECK(same(on_device(tens, cuda::integer_grid{}, as_it_comes).values, together.values));
}

TEST_CASE("a gradient that is not kept may be overwritten when its group is complete, one that is after the step") {
  toy_model<float> model(std::vector<isize>(parameters, width)), expected(std::vector<isize>(parameters, width));
  const per_layer bounds{.max_grad_norm = 0.4};
  recording_api device;
  device_trainer opt(model.views(), dp_options{}, device, bounds, noise, scaling, sgd{.learning_rate = 0.5},
                     cuda::integer_grid{}, cuda::serial{});
  std::vector<std::vector<float>> buffers(parameters / 2);
  std::vector<float> reused;
  opt.begin({.samples = 5});
  for (isize p = 0; p < parameters; ++p)
    if (p % 2 == 0) { // kept and reused in turn
      auto& mine = buffers[static_cast<std::size_t>(p / 2)];
      mine = rows_of(0, p, 5);
      opt.gradient_ready(p, as_kept(mine.data(), 5));
    } else {
      reused = rows_of(0, p, 5);
      opt.gradient_ready(p, as_it_comes(reused.data(), 5));
    }
  opt.step();
  for (auto& mine : buffers) mine.assign(mine.size(), 1e6F);
  opt.begin({.samples = 0});
  for (isize p = 0; p < parameters; ++p) opt.gradient_absent(p);
  opt.step();
  dp_optimizer core(expected.views(), dp_options{}, bounds, noise, scaling, sgd{.learning_rate = 0.5}, integer_grid{});
  core.begin({.samples = 5});
  for (isize p = 0; p < parameters; ++p) {
    reused = rows_of(0, p, 5);
    core.gradient_ready(p, materialized<float>(reused.data(), 5, width));
  }
  core.step();
  core.begin({.samples = 0});
  for (isize p = 0; p < parameters; ++p) core.gradient_absent(p);
  core.step();
  CHECK(same(model.all_values(), expected.all_values()));
}

TEST_CASE("small and large parameters, rows and linear layers under one bound give the core's sums") {
  const std::vector<isize> sizes{12, 5000, 35, 7, 6000, 20};
  constexpr isize batch = 6, inputs = 5;
  const auto numbers = [](isize n, isize salt) {
    std::vector<float> out;
    for (isize k = 0; k < n; ++k) out.push_back(static_cast<float>(toy_gradient(3, k % batch, salt, k)));
    return out;
  };
  std::vector<std::vector<float>> rows, inputs_of;
  for (std::size_t p = 0; p < sizes.size(); ++p) {
    rows.push_back(numbers(batch * sizes[p], static_cast<isize>(p)));
    inputs_of.push_back(numbers(batch * inputs, static_cast<isize>(p) + 50));
  }
  const auto is_layer = [](std::size_t p) { return p == 2 || p == 5; };
  const auto run = [&](auto& opt, auto row_source, auto layer) {
    opt.begin({.samples = batch});
    for (std::size_t p = 0; p < sizes.size(); ++p) {
      const isize n = static_cast<isize>(p);
      if (is_layer(p)) opt.gradient_ready(n, layer(inputs_of[p].data(), rows[p].data(), sizes[p] / inputs));
      else opt.gradient_ready(n, row_source(rows[p].data(), sizes[p]));
    }
    opt.step();
  };
  const auto compare = [&](auto grid_on, auto grid, double allowed) {
    toy_model<float> model(sizes), expected(sizes);
    recording_api device;
    device_trainer opt(model.views(), dp_options{}, device, flat{2.0}, noise, scaling, sgd{}, grid_on, cuda::serial{});
    run(
        opt, [](const float* x, isize n) { return cuda::materialized<float>(x, batch, n); },
        [](const float* a, const float* e, isize outputs) {
          return cuda::linear_weight<float>{a, e, batch, inputs, outputs};
        });
    dp_optimizer core(expected.views(), dp_options{}, flat{2.0}, noise, scaling, sgd{}, grid);
    run(
        core, [](const float* x, isize n) { return materialized<float>(x, batch, n); },
        [](const float* a, const float* e, isize outputs) {
          return linear_weight<float>{a, e, batch, inputs, outputs};
        });
    CHECK(distance(model.all_gradients(), expected.all_gradients()) <= allowed);
    CHECK(device.count("add_norms_of_many") == 2); // one of rows, one of layers
    CHECK(device.count(recorded_call::kind::product) == 0);
  };
  compare(cuda::running_sum<float>{}, running_sum<float>{}, 1e-6);
  compare(cuda::integer_grid{}, integer_grid{}, 0);
}
