// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Question: what does a whole private step cost over the loops that do nothing but its arithmetic, and over the plain
/// step that it replaces? One parameter of `range` numbers, 32 samples written out, SGD.
#include "dpopt/accounting/no_accountant.hpp"
#include "dpopt/clipping/per_layer.hpp"
#include "dpopt/dp_optimizer/dp_optimizer.hpp"
#include "dpopt/gradients/materialized.hpp"

#include "support/hand_written.hpp"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cstddef>
#include <vector>

namespace {

using dpopt::isize;

constexpr isize samples = 32;

struct problem {
  explicit problem(isize n)
      : size(n), w(static_cast<std::size_t>(n), 1.0F), g(static_cast<std::size_t>(samples * n)), sum(w.size()) {
    for (std::size_t k = 0; k < g.size(); ++k) g[k] = static_cast<float>(k % 5) - 2;
  }
  isize size;
  std::vector<float> w, g, sum;
};

void ours(benchmark::State& state, double multiplier) {
  problem p(state.range(0));
  const std::vector<dpopt::parameter_view<float>> views{{"w", p.w}};
  dpopt::dp_optimizer opt(views, dpopt::dp_options{}, dpopt::per_layer{1.0}, dpopt::sgd{.learning_rate = 0.1},
                          dpopt::counter_gaussian{.noise_multiplier = multiplier}, dpopt::no_accountant{},
                          dpopt::expected_batch{static_cast<double>(samples)});
  for (auto _ : state) {
    opt.begin({.samples = samples});
    opt.gradient_ready(0, dpopt::materialized(p.g.data(), samples, p.size));
    opt.step();
  }
  state.SetItemsProcessed(state.iterations() * p.size);
}

/// The same arithmetic without noise, by hand.
void raw_clipped(benchmark::State& state) {
  problem p(state.range(0));
  for (auto _ : state) {
    std::fill(p.sum.begin(), p.sum.end(), 0.0F);
    bench::clip_and_sum(p.g.data(), samples, p.size, p.sum.data());
    for (std::size_t k = 0; k < p.w.size(); ++k) p.w[k] -= 0.1F * (p.sum[k] / static_cast<float>(samples));
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * p.size);
}

void with_noise(benchmark::State& s) { ours(s, 1.0); }
void without_noise(benchmark::State& s) { ours(s, 0.0); }

BENCHMARK(without_noise)->Name("step without noise/ours")->Arg(64)->Arg(4096)->Arg(262144);
BENCHMARK(raw_clipped)->Name("step without noise/raw:hand-written loops")->Arg(64)->Arg(4096)->Arg(262144);
BENCHMARK(with_noise)->Name("step with noise/ours")->Arg(64)->Arg(4096)->Arg(262144);
BENCHMARK(raw_clipped)->Name("step with noise/raw:hand-written loops, no noise")->Arg(64)->Arg(4096)->Arg(262144);

} // namespace
