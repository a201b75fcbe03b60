// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Question: what does a Gaussian cost, against std::normal_distribution on std::mt19937_64? 1 Mi numbers a call.
#include "dpopt/noise/counter_gaussian.hpp"
#include "dpopt/noise/sequential_gaussian.hpp"
#include "dpopt/sodium/hardened_gaussian.hpp"
#include "dpopt/sodium/secure_gaussian.hpp"

#include <benchmark/benchmark.h>

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <random>
#include <vector>

namespace {

using dpopt::isize;

constexpr isize count = 1 << 20;

template <class V, class Noise>
void add(benchmark::State& state, Noise noise, double std = 1.0) {
  if constexpr (dpopt::SharesSecret<Noise>) noise.draw_secret();
  std::vector<V> x(static_cast<std::size_t>(count));
  dpopt::address where;
  for (auto _ : state) {
    noise.add(where, std, x.data(), count);
    ++where.step;
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * count);
}

template <class V>
void raw(benchmark::State& state) {
  std::mt19937_64 engine(1);
  std::normal_distribution<V> normal;
  std::vector<V> x(static_cast<std::size_t>(count));
  for (auto _ : state) {
    for (V& v : x) v += normal(engine);
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * count);
}

constexpr double grid_std = 0x1.2p36; // multiplier 1.1 on integer_grid as it is by default

/// What is neither exact nor hard to guess: a rounded normal number of <random>.
void raw_rounded(benchmark::State& state) {
  std::mt19937_64 engine(1);
  std::normal_distribution<double> normal(0, grid_std);
  std::vector<std::int64_t> x(static_cast<std::size_t>(count));
  for (auto _ : state) {
    for (std::int64_t& v : x) v += std::llround(normal(engine));
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * count);
}

void counter_float(benchmark::State& s) { add<float>(s, dpopt::counter_gaussian{.noise_multiplier = 1}); }
void counter_double(benchmark::State& s) { add<double>(s, dpopt::counter_gaussian{.noise_multiplier = 1}); }
void secure_float(benchmark::State& s) { add<float>(s, dpopt::secure_gaussian{.noise_multiplier = 1}); }
void hardened(benchmark::State& s) { add<std::int64_t>(s, dpopt::hardened_gaussian{.noise_multiplier = 1}, grid_std); }

BENCHMARK(counter_float)->Name("counter_gaussian float/ours");
BENCHMARK(raw<float>)->Name("counter_gaussian float/raw:std::normal_distribution");
BENCHMARK(counter_double)->Name("counter_gaussian double/ours");
BENCHMARK(raw<double>)->Name("counter_gaussian double/raw:std::normal_distribution");
BENCHMARK(secure_float)->Name("secure_gaussian float/ours");
BENCHMARK(raw<float>)->Name("secure_gaussian float/raw:std::normal_distribution");
BENCHMARK(hardened)->Name("hardened_gaussian/ours");
BENCHMARK(raw_rounded)->Name("hardened_gaussian/raw:std::normal_distribution, rounded");

} // namespace
