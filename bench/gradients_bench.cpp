// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Question: what do the two questions of a gradient source cost against plain loops on the same numbers? The row sizes
/// span many tiny parameters to rows beyond L2; the batch always holds 16 MiB.
#include "dpopt/gradients/linear_weight.hpp"
#include "dpopt/gradients/materialized.hpp"

#include <benchmark/benchmark.h>

#include <cmath>
#include <cstddef>
#include <vector>

namespace {

using dpopt::isize;

constexpr isize total = 4 << 20; // floats: 16 MiB

struct rows {
  explicit rows(isize n)
      : size(n), batch(total / n), data(static_cast<std::size_t>(total), 0.5F), out(static_cast<std::size_t>(n)),
        norms(static_cast<std::size_t>(batch)), factors(norms.size(), 0.25) {}
  isize size, batch;
  std::vector<float> data, out;
  std::vector<double> norms, factors;
};

void count_bytes(benchmark::State& state) {
  state.SetBytesProcessed(state.iterations() * total * static_cast<isize>(sizeof(float)));
}

void norms_ours(benchmark::State& state) {
  rows r(state.range(0));
  const dpopt::materialized source(r.data.data(), r.batch, r.size);
  dpopt::workspace scratch;
  for (auto _ : state) {
    source.add_squared_norms({0, r.batch}, r.norms.data(), scratch);
    benchmark::ClobberMemory();
  }
  count_bytes(state);
}

/// Reads every number once and does the least that makes use of it: the machine's limit.
void read_raw(benchmark::State& state) {
  rows r(state.range(0));
  for (auto _ : state) {
    float sums[16] = {};
    for (isize k = 0; k < total; k += 16)
      for (isize j = 0; j < 16; ++j) sums[j] += r.data[static_cast<std::size_t>(k + j)];
    benchmark::DoNotOptimize(sums);
  }
  count_bytes(state);
}

void sum_ours(benchmark::State& state) {
  rows r(state.range(0));
  const dpopt::materialized source(r.data.data(), r.batch, r.size);
  dpopt::workspace scratch;
  for (auto _ : state) {
    source.add_weighted_sum({0, r.batch}, r.factors.data(), r.out.data(), scratch);
    benchmark::ClobberMemory();
  }
  count_bytes(state);
}

void sum_raw(benchmark::State& state) {
  rows r(state.range(0));
  for (auto _ : state) {
    for (isize i = 0; i < r.batch; ++i) {
      const float factor = static_cast<float>(r.factors[static_cast<std::size_t>(i)]);
      const float* row = r.data.data() + i * r.size;
      float* out = r.out.data();
      for (isize k = 0; k < r.size; ++k) out[k] += factor * row[k];
    }
    benchmark::ClobberMemory();
  }
  count_bytes(state);
}

/// A linear layer [width x width] on a batch of 64, never materialized.
struct layer {
  explicit layer(isize n)
      : width(n), a(static_cast<std::size_t>(64 * n), 0.5F), e(a.size(), 0.25F), out(static_cast<std::size_t>(n * n)),
        factors(64, 0.5) {}
  isize width;
  std::vector<float> a, e, out;
  std::vector<double> factors;
};

void linear_ours(benchmark::State& state) {
  layer l(state.range(0));
  const dpopt::linear_weight<float> source{l.a.data(), l.e.data(), 64, l.width, l.width};
  dpopt::workspace scratch;
  for (auto _ : state) {
    source.add_weighted_sum({0, 64}, l.factors.data(), l.out.data(), scratch);
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * 64 * l.width * l.width);
}

void linear_raw(benchmark::State& state) {
  layer l(state.range(0));
  for (auto _ : state) {
    for (isize i = 0; i < 64; ++i)
      for (isize o = 0; o < l.width; ++o) {
        const float scaled =
            static_cast<float>(l.factors[static_cast<std::size_t>(i)]) * l.e[static_cast<std::size_t>(i * l.width + o)];
        const float* a = l.a.data() + i * l.width;
        float* row = l.out.data() + o * l.width;
        for (isize k = 0; k < l.width; ++k) row[k] += scaled * a[k];
      }
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * 64 * l.width * l.width);
}

BENCHMARK(norms_ours)->Name("squared norms/ours")->Arg(64)->Arg(1024)->Arg(16384)->Arg(262144);
BENCHMARK(read_raw)->Name("squared norms/raw:sum of the numbers")->Arg(64)->Arg(1024)->Arg(16384)->Arg(262144);
BENCHMARK(sum_ours)->Name("weighted sum/ours")->Arg(64)->Arg(1024)->Arg(16384)->Arg(262144);
BENCHMARK(sum_raw)->Name("weighted sum/raw:loop")->Arg(64)->Arg(1024)->Arg(16384)->Arg(262144);
BENCHMARK(linear_ours)->Name("linear weighted sum/ours")->Arg(64)->Arg(512);
BENCHMARK(linear_raw)->Name("linear weighted sum/raw:loop")->Arg(64)->Arg(512);

} // namespace
