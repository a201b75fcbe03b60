// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Question: what does a whole private training step cost over the plain one that it replaces, in time and in memory?
/// Multilayer perceptrons, small convolutional networks and a transformer in Eigen, forward and backward included.
/// Factored: the layers hand over inputs and output derivatives. Materialized: every sample's gradient is written out
/// first. Without rows: factored, with nothing written out for a norm of all layers. A smoke run
/// (DPOPT_BENCH_QUICK) takes small shapes and checks the networks' gradients instead.
#include "support/heap_meter.hpp"

#include "support/cnn.hpp"
#include "support/gradient_check.hpp"
#include "support/mlp.hpp"
#include "support/private_sgd.hpp"
#include "support/transformer.hpp"

#include <benchmark/benchmark.h>

#include <cstddef>
#include <cstdlib>
#include <iostream>
#include <string>
#include <type_traits>

namespace {

using bench::cnn;
using bench::factored;
using bench::isize;
using bench::learning_rate;
using bench::materialized;
using bench::mlp;
using bench::private_sgd;
using bench::transformer;

constexpr double mebi = 1 << 20;
constexpr double largest_rows = 2048; ///< MiB of per-sample gradients beyond which a way is left out

template <class Network>
void time_plain(benchmark::State& state, const typename Network::shape& s) {
  Network network(s);
  bench::plain_sgd<Network> trainer(network);
  trainer.step(0);
  for (auto _ : state) trainer.step(static_cast<float>(learning_rate));
}

template <class Network, class Sources, class Clipper>
void time_private(benchmark::State& state, const typename Network::shape& s) {
  Network network(s);
  private_sgd<Network, Sources, Clipper> trainer(network);
  trainer.step();
  for (auto _ : state) trainer.step();
}

template <class Network>
void memory_plain(benchmark::State& state, const typename Network::shape& s) {
  Network network(s);
  for (auto _ : state) state.counters["MiB"] = static_cast<double>(bench::plain_bytes(network)) / mebi;
}

/// The plain step's memory less its gradients, which a private step has no use for, and the most that the private
/// one took.
template <class Network, class Sources, class Clipper>
void memory_private(benchmark::State& state, const typename Network::shape& s) {
  Network network(s);
  for (auto _ : state) {
    const std::size_t before = bench::heap::start();
    private_sgd<Network, Sources, Clipper> trainer(network);
    trainer.step();
    trainer.step();
    const auto taken = static_cast<double>(bench::heap::peak - before);
    state.counters["MiB"] = (static_cast<double>(network.bytes()) + taken) / mebi;
  }
}

template <class Ours, class Reference>
void pair(const std::string& name, const Ours& ours, const std::string& what, const Reference& reference,
          bool once = false) {
  auto* const one = benchmark::RegisterBenchmark((name + "/ours").c_str(), ours);
  auto* const other = benchmark::RegisterBenchmark((name + "/raw:" + what).c_str(), reference);
  if (once) one->Iterations(1);
  if (once) other->Iterations(1);
}

template <class Network, class Sources, class Clipper>
void way(const typename Network::shape& s, const std::string& how, bool quick) {
  const std::string row = s.name() + ", " + how;
  if constexpr (std::is_same_v<Sources, materialized>) {
    Network network(s);
    const double rows = static_cast<double>(network.parameters().numbers() * network.batch()) * sizeof(float) / mebi;
    if (rows > largest_rows) {
      std::cerr << "left out: " << row << ": " << rows << " MiB of per-sample gradients\n";
      return;
    }
  }
  pair(
      "time: " + row, [s](auto& st) { time_private<Network, Sources, Clipper>(st, s); }, "plain step",
      [s](auto& st) { time_plain<Network>(st, s); });
  pair(
      "memory: " + row, [s](auto& st) { memory_private<Network, Sources, Clipper>(st, s); }, "plain step",
      [s](auto& st) { memory_plain<Network>(st, s); }, true);
  if (!quick) return;
  const auto figure = [s](double bench::changes::*side) {
    return [s, side](benchmark::State& state) {
      for (auto _ : state) {
        const bench::changes c = bench::check_private_step<Sources, Clipper, Network>(s);
        state.counters["length"] = c.*side;
        if (!c.problem.empty()) state.SkipWithError(c.problem.c_str());
      }
    };
  };
  pair("same change: " + row, figure(&bench::changes::ours), "plain step", figure(&bench::changes::plain), true);
}

template <class Network>
void rows(const typename Network::shape& s, bool quick) {
  way<Network, factored, dpopt::per_layer>(s, "factored per layer", quick);
  way<Network, factored, dpopt::flat>(s, "factored flat", quick);
  if constexpr (!std::is_same_v<Network, mlp>) // dense layers with one position have no such rows
    way<Network, bench::without_rows<factored>, dpopt::flat>(s, "factored flat without rows", quick);
  way<Network, materialized, dpopt::per_layer>(s, "materialized per layer", quick);
  way<Network, materialized, dpopt::flat>(s, "materialized flat", quick);
  if (!quick) return;
  const auto figure = [s](double bench::derivatives::*side) {
    return [s, side](benchmark::State& state) {
      for (auto _ : state) {
        Network network(s);
        const bench::derivatives d = bench::check_gradients(network);
        state.counters["slope"] = d.*side;
        if (!d.problem.empty()) state.SkipWithError(d.problem.c_str());
      }
    };
  };
  pair("gradients: " + s.name(), figure(&bench::derivatives::backward), "finite differences",
       figure(&bench::derivatives::differences), true);
}

[[maybe_unused]] const bool registered = [] {
  if (std::getenv("DPOPT_BENCH_QUICK") != nullptr) {
    rows<mlp>({{12, 16, 8, 10}, 32}, true);
    rows<cnn>({6, 16}, true);
    rows<transformer>({2, 16, 2, 5, 8}, true);
    return true;
  }
  rows<mlp>({{64, 128, 64, 10}, 256}, false);
  rows<mlp>({{784, 512, 256, 10}, 512}, false);
  rows<mlp>({{1024, 1024, 1024, 1024}, 128}, false);
  rows<cnn>({8, 256}, false);
  rows<cnn>({28, 128}, false);
  rows<transformer>({2, 256, 4, 128, 8}, false);
  return true;
}();

} // namespace
