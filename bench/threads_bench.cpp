// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Question: how much faster do two threads of OpenMP release a step than one? Steps of empty batches, whose whole work
/// is noise, scaling and update of 4 Mi floats. Built where the compiler has OpenMP.
#include "dpopt/optimizers/adam.hpp"
#include "dpopt/optimizers/sgd.hpp"
#include "support/empty_step.hpp"

#include <benchmark/benchmark.h>

#include <omp.h>

namespace {

using dpopt::isize;

constexpr isize size = isize{1} << 22;

template <class Base>
void step(benchmark::State& state, Base base, int threads) {
  omp_set_num_threads(threads);
  bench::empty_steps(state, base, size);
}

BENCHMARK_CAPTURE(step, sgd_two, dpopt::sgd{}, 2)->Name("sgd on two threads/ours")->UseRealTime();
BENCHMARK_CAPTURE(step, sgd_one, dpopt::sgd{}, 1)->Name("sgd on two threads/raw:one thread")->UseRealTime();
BENCHMARK_CAPTURE(step, adam_two, dpopt::adam{}, 2)->Name("adam on two threads/ours")->UseRealTime();
BENCHMARK_CAPTURE(step, adam_one, dpopt::adam{}, 1)->Name("adam on two threads/raw:one thread")->UseRealTime();

} // namespace
