// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Question: how much faster do two threads of OpenMP release a step than one? Steps of empty batches, whose whole work
/// is noise, scaling and update of 1 Mi floats. One and two threads take turns, step by step and in either order, so
/// that what else the machine does meets both alike; "ours" is the fastest step on two threads, "raw" on one. An error
/// is reported instead of times when the parameters differ in a bit. Built where the compiler has OpenMP.
#include "dpopt/accounting/no_accountant.hpp"
#include "dpopt/clipping/per_layer.hpp"
#include "dpopt/dp_optimizer/dp_optimizer.hpp"
#include "dpopt/gradients/materialized.hpp"
#include "dpopt/noise/counter_gaussian.hpp"
#include "dpopt/optimizers/adam.hpp"
#include "dpopt/optimizers/sgd.hpp"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cstddef>
#include <omp.h>
#include <vector>

namespace {

using dpopt::isize;

constexpr isize size = isize{1} << 20;
constexpr int turns = 200;

struct fastest {
  double one = 0, two = 0; ///< seconds a step
  bool same_bits = false;
};

/// One step on a number of threads, in seconds.
template <class Optimizer>
double step_seconds(Optimizer& optimizer, int threads) {
  omp_set_num_threads(threads);
  optimizer.begin({.samples = 0});
  optimizer.gradient_ready(0, dpopt::materialized(static_cast<const float*>(nullptr), 0, size));
  const auto start = std::chrono::steady_clock::now();
  optimizer.step();
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
}

template <class Base>
fastest compare(Base base) {
  std::vector<float> first(static_cast<std::size_t>(size), 1.0F), second = first;
  const auto make = [&](std::vector<float>& w) {
    const std::vector<dpopt::parameter_view<float>> views{{"w", w}};
    return dpopt::dp_optimizer(views, dpopt::dp_options{}, dpopt::per_layer{1.0}, base,
                               dpopt::counter_gaussian{.noise_multiplier = 1, .seed = 7}, dpopt::no_accountant{},
                               dpopt::expected_batch{32.0});
  };
  auto alone = make(first);
  auto both = make(second);
  fastest result{.one = 1e9, .two = 1e9};
  for (int k = 0; k < turns; ++k) {
    if (k % 2 == 0) result.one = std::min(result.one, step_seconds(alone, 1));
    result.two = std::min(result.two, step_seconds(both, 2));
    if (k % 2 == 1) result.one = std::min(result.one, step_seconds(alone, 1));
  }
  result.same_bits = first == second;
  return result;
}

/// One comparison serves both rows of a pair.
template <class Base>
const fastest& compared() {
  static const fastest result = compare(Base{});
  return result;
}

template <class Base>
void step(benchmark::State& state, double fastest::*seconds) {
  const fastest& result = compared<Base>();
  if (!result.same_bits) state.SkipWithError("one and two threads end at other bits");
  for (auto _ : state) state.SetIterationTime(result.*seconds);
  state.SetItemsProcessed(state.iterations() * size);
}

void sgd(benchmark::State& state, double fastest::*seconds) { step<dpopt::sgd>(state, seconds); }
void adam(benchmark::State& state, double fastest::*seconds) { step<dpopt::adam>(state, seconds); }
void once(benchmark::internal::Benchmark* b) { b->Iterations(1)->UseManualTime(); }

BENCHMARK_CAPTURE(sgd, two, &fastest::two)->Name("sgd on two threads/ours")->Apply(once);
BENCHMARK_CAPTURE(sgd, one, &fastest::one)->Name("sgd on two threads/raw:one thread")->Apply(once);
BENCHMARK_CAPTURE(adam, two, &fastest::two)->Name("adam on two threads/ours")->Apply(once);
BENCHMARK_CAPTURE(adam, one, &fastest::one)->Name("adam on two threads/raw:one thread")->Apply(once);

} // namespace
