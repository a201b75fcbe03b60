// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Question: what does a whole private training step cost over the plain one that it replaces, in time and in memory?
/// Three multilayer perceptrons in Eigen, forward and backward included. Factored: the layers hand over inputs and
/// output derivatives. Materialized: every sample's gradient is written out first.
#include "support/heap_meter.hpp"
#include "support/mlp.hpp"
#include "support/private_mlp.hpp"

#include <benchmark/benchmark.h>

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace {

using bench::factored;
using bench::isize;
using bench::learning_rate;
using bench::materialized;
using bench::mlp;
using bench::private_sgd;
using bench::shape;

constexpr double mebi = 1 << 20;

void time_plain(benchmark::State& state, const shape& s) {
  mlp model(s);
  bench::plain_sgd trainer(model);
  trainer.step(0);
  for (auto _ : state) trainer.step(static_cast<float>(learning_rate));
}

template <class Sources, class Clipper>
void time_private(benchmark::State& state, const shape& s) {
  mlp model(s);
  private_sgd<Sources, Clipper> trainer(model);
  trainer.step();
  for (auto _ : state) trainer.step();
}

void memory_plain(benchmark::State& state, const shape& s) {
  for (auto _ : state) state.counters["MiB"] = static_cast<double>(bench::plain_bytes(s)) / mebi;
}

/// The plain step's memory less its gradients, which a private step has no use for, and the most that the private
/// one took.
template <class Sources, class Clipper>
void memory_private(benchmark::State& state, const shape& s) {
  mlp model(s);
  for (auto _ : state) {
    const std::size_t before = bench::heap::start();
    private_sgd<Sources, Clipper> trainer(model);
    trainer.step();
    trainer.step();
    const auto taken = static_cast<double>(bench::heap::peak - before);
    const auto gradients = static_cast<double>(s.parameters()) * sizeof(float);
    state.counters["MiB"] = (static_cast<double>(bench::plain_bytes(s)) - gradients + taken) / mebi;
  }
}

template <class Sources, class Clipper>
void row(const shape& s, std::string_view how) {
  const auto add = [&](std::string_view what, auto ours, auto plain) {
    const std::string question = std::string(what) + ": " + s.name() + ", " + std::string(how);
    benchmark::RegisterBenchmark((question + "/ours").c_str(), [=](benchmark::State& st) { ours(st, s); });
    benchmark::RegisterBenchmark((question + "/raw:plain step").c_str(), [=](benchmark::State& st) { plain(st, s); });
  };
  add("time", time_private<Sources, Clipper>, time_plain);
  add("memory", memory_private<Sources, Clipper>, memory_plain);
}

[[maybe_unused]] const bool registered = [] {
  for (const shape& s :
       {shape{{64, 128, 64, 10}, 256}, shape{{784, 512, 256, 10}, 512}, shape{{1024, 1024, 1024, 1024}, 128}}) {
    row<factored, dpopt::per_layer>(s, "factored per layer");
    row<factored, dpopt::flat>(s, "factored flat");
    row<materialized, dpopt::per_layer>(s, "materialized per layer");
    row<materialized, dpopt::flat>(s, "materialized flat");
  }
  return true;
}();

} // namespace
