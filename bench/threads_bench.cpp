// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Question: how much faster do two threads of OpenMP release a step than one? Steps of empty batches, whose whole work
/// is noise, scaling and update of 4 Mi floats. Built where the compiler has OpenMP.
#include "dpopt/accounting/no_accountant.hpp"
#include "dpopt/clipping/per_layer.hpp"
#include "dpopt/dp_optimizer/dp_optimizer.hpp"
#include "dpopt/gradients/materialized.hpp"
#include "dpopt/optimizers/adam.hpp"
#include "dpopt/optimizers/sgd.hpp"

#include <benchmark/benchmark.h>

#include <cstddef>
#include <omp.h>
#include <vector>

namespace {

using dpopt::isize;

constexpr isize size = isize{1} << 22;

template <class Base>
void step(benchmark::State& state, Base base, int threads) {
  omp_set_num_threads(threads);
  std::vector<float> w(static_cast<std::size_t>(size), 1.0F);
  const std::vector<dpopt::parameter_view<float>> views{{"w", w}};
  dpopt::dp_optimizer opt(views, dpopt::dp_options{}, dpopt::per_layer{1.0}, base,
                          dpopt::counter_gaussian{.noise_multiplier = 1}, dpopt::no_accountant{},
                          dpopt::expected_batch{32.0});
  for (auto _ : state) {
    opt.begin({.samples = 0});
    opt.gradient_ready(0, dpopt::materialized(static_cast<const float*>(nullptr), 0, size));
    opt.step();
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * size);
}

BENCHMARK_CAPTURE(step, sgd_two, dpopt::sgd{}, 2)->Name("sgd on two threads/ours")->UseRealTime();
BENCHMARK_CAPTURE(step, sgd_one, dpopt::sgd{}, 1)->Name("sgd on two threads/raw:one thread")->UseRealTime();
BENCHMARK_CAPTURE(step, adam_two, dpopt::adam{}, 2)->Name("adam on two threads/ours")->UseRealTime();
BENCHMARK_CAPTURE(step, adam_one, dpopt::adam{}, 1)->Name("adam on two threads/raw:one thread")->UseRealTime();

} // namespace
