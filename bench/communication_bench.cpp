// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Questions: what does a sum over ranks-as-threads cost beside two threads that meet at a barrier and add half of the
/// numbers each, without any check; and what does the bucket plan cost beside a bare countdown?
#include "dpopt/communication/buckets.hpp"
#include "dpopt/communication/threads.hpp"

#include <benchmark/benchmark.h>

#include <barrier>
#include <cstddef>
#include <thread>
#include <vector>

namespace {

using dpopt::isize;

/// Rank 0 is the measured thread. Rank 1 repeats the same sum until the sum of the first elements is not 0.
void threads_sum(benchmark::State& state) {
  const isize n = state.range(0);
  dpopt::threads::world shared(2);
  const auto sum = [n](dpopt::threads& comm, std::vector<float>& x) {
    auto started = comm.start_sum(x.data(), n);
    comm.wait(started);
  };
  const std::jthread other([&] {
    dpopt::threads comm(shared, 1);
    std::vector<float> x(static_cast<std::size_t>(n), 0.0F);
    do sum(comm, x);
    while (x[0] == 0);
  });
  dpopt::threads comm(shared, 0);
  std::vector<float> x(static_cast<std::size_t>(n), 0.0F);
  for (auto _ : state) sum(comm, x);
  x[0] = 1;
  sum(comm, x);
  state.SetItemsProcessed(state.iterations() * n);
}

void barrier_sum(benchmark::State& state) {
  const isize n = state.range(0);
  std::barrier meet(2);
  std::vector<float> a(static_cast<std::size_t>(n), 0.0F), b = a;
  const auto sum = [&](isize first, isize last) {
    meet.arrive_and_wait();
    float* const x = a.data();
    float* const y = b.data();
    for (isize i = first; i < last; ++i) x[i] = y[i] = x[i] + y[i];
    meet.arrive_and_wait();
  };
  const std::jthread other([&] {
    do sum(n / 2, n);
    while (b[0] == 0);
  });
  for (auto _ : state) sum(0, n / 2);
  a[0] = 1;
  sum(0, n / 2);
  state.SetItemsProcessed(state.iterations() * n);
}

/// A step of a model with as many layers as the argument says, ready from the last to the first.
void bucket_plan(benchmark::State& state) {
  const isize layers = state.range(0);
  const std::vector<isize> sizes(static_cast<std::size_t>(layers), 1000);
  dpopt::bucket_progress progress(dpopt::bucket_plan(sizes, 8000));
  for (auto _ : state) {
    progress.reset();
    for (isize p = layers; p-- > 0;) {
      progress.contributed(p);
      while (auto bucket = progress.next_ready()) benchmark::DoNotOptimize(*bucket);
    }
  }
  state.SetItemsProcessed(state.iterations() * layers);
}

/// The same model when the order of arrival is taken on trust: eight layers a bucket.
void countdown(benchmark::State& state) {
  const isize layers = state.range(0);
  for (auto _ : state) {
    isize missing = 8;
    for (isize p = layers; p-- > 0;) {
      benchmark::DoNotOptimize(p);
      if (--missing == 0) {
        isize bucket = p / 8;
        benchmark::DoNotOptimize(bucket);
        missing = 8;
      }
    }
  }
  state.SetItemsProcessed(state.iterations() * layers);
}

BENCHMARK(threads_sum)->Name("threads_sum/ours")->Arg(1024)->Arg(1 << 20)->UseRealTime();
BENCHMARK(barrier_sum)->Name("threads_sum/raw:barrier")->Arg(1024)->Arg(1 << 20)->UseRealTime();
BENCHMARK(bucket_plan)->Name("bucket_plan/ours")->Arg(64);
BENCHMARK(countdown)->Name("bucket_plan/raw:countdown")->Arg(64);

} // namespace
