// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Question: is the pass that fuses noise, scaling and update as fast as the slower of noise alone and update alone?
/// Whole steps of empty batches: one parameter of `range` floats, nothing to clip, all of the noise. The reference runs
/// both alone in turns and counts the longer time of each turn. Processor time, which other programs disturb less.
#include "dpopt/noise/counter_gaussian.hpp"
#include "dpopt/optimizers/adam.hpp"
#include "dpopt/optimizers/sgd.hpp"
#include "support/empty_step.hpp"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <ctime>
#include <vector>

namespace {

using dpopt::isize;

template <class Base>
void fused(benchmark::State& state, Base base) {
  bench::empty_steps(state, base, state.range(0));
}

double processor_seconds() {
  timespec now{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
  return static_cast<double>(now.tv_sec) + 1e-9 * static_cast<double>(now.tv_nsec);
}

template <class Work>
double seconds_of(Work work) {
  const double start = processor_seconds();
  work();
  benchmark::ClobberMemory();
  return processor_seconds() - start;
}

template <class Base>
void slower(benchmark::State& state, Base base) {
  const isize size = state.range(0);
  dpopt::counter_gaussian noise{.noise_multiplier = 1};
  noise.draw_secret();
  std::vector<float> sum(static_cast<std::size_t>(size)), w(sum.size(), 1.0F), g(sum.size(), 0.5F);
  std::array<std::vector<float>, Base::slots> arrays;
  std::array<float*, Base::slots> slots{};
  for (std::size_t k = 0; k < Base::slots; ++k) {
    arrays[k].assign(sum.size(), 0.25F);
    slots[k] = arrays[k].data();
  }
  dpopt::address where;
  for (auto _ : state) {
    const double alone = seconds_of([&] { noise.add(where, 1.0, sum.data(), size); });
    const auto constants = base.at(where.step++);
    const double update = seconds_of([&] { constants.update(w.data(), g.data(), slots, size); });
    state.SetIterationTime(std::max(alone, update));
  }
  state.SetItemsProcessed(state.iterations() * size);
}

void sizes(benchmark::internal::Benchmark* b) { b->Arg(1 << 16)->Arg(1 << 22); }

BENCHMARK_CAPTURE(fused, sgd, dpopt::sgd{})->Name("fused sgd/ours")->Apply(sizes);
BENCHMARK_CAPTURE(slower, sgd, dpopt::sgd{})
    ->Name("fused sgd/raw:slower of noise alone and update alone")
    ->Apply(sizes)
    ->UseManualTime();
BENCHMARK_CAPTURE(fused, adam, dpopt::adam{})->Name("fused adam/ours")->Apply(sizes);
BENCHMARK_CAPTURE(slower, adam, dpopt::adam{})
    ->Name("fused adam/raw:slower of noise alone and update alone")
    ->Apply(sizes)
    ->UseManualTime();

} // namespace
