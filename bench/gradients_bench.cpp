// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Question: what do the two questions of a gradient source cost against plain loops on the same numbers? The row sizes
/// span many tiny parameters to rows beyond L2; the batch always holds 16 MiB.
#include "dpopt/gradients/linear_sequence.hpp"
#include "dpopt/gradients/linear_weight.hpp"
#include "dpopt/gradients/materialized.hpp"

#if __has_include(<Eigen/Core>)
#include "dpopt/eigen/eigen_product.hpp"
#endif

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

/// A linear layer [width x width] on a batch of 256, never materialized.
struct layer {
  explicit layer(isize n)
      : width(n), a(static_cast<std::size_t>(batch * n), 0.5F), e(a.size(), 0.25F),
        out(static_cast<std::size_t>(n * n)), factors(batch, 0.5) {}
  static constexpr isize batch = 256;
  isize width;
  std::vector<float> a, e, out;
  std::vector<double> factors;
};

/// Norms and sum, as clipping asks for them.
template <class Product>
void linear_ours(benchmark::State& state) {
  layer l(state.range(0));
  const dpopt::linear_weight<float, Product> source{l.a.data(), l.e.data(), layer::batch, l.width, l.width};
  dpopt::workspace scratch;
  std::vector<double> norms(layer::batch);
  for (auto _ : state) {
    source.add_squared_norms({0, layer::batch}, norms.data(), scratch);
    source.add_weighted_sum({0, layer::batch}, l.factors.data(), l.out.data(), scratch);
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * layer::batch * l.width * l.width);
}

/// The gradient of the batch that a trainer without privacy computes.
template <class Product>
void linear_raw(benchmark::State& state) {
  layer l(state.range(0));
  dpopt::workspace scratch;
  const dpopt::strided_rows<const float> a{l.a.data(), l.width}, e{l.e.data(), l.width};
  for (auto _ : state) {
    Product{}.add(l.width, l.width, layer::batch, e, a, dpopt::strided_rows<float>{l.out.data(), l.width}, scratch);
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * layer::batch * l.width * l.width);
}

/// The norm of one sample with T positions of a layer [width x width]: by Gram matrices, or by making the gradient.
void sequence_norm(benchmark::State& state, bool by_gram) {
  const isize positions = state.range(1);
  layer l(state.range(0));
  l.a.resize(static_cast<std::size_t>(positions * l.width), 0.5F);
  l.e.resize(l.a.size(), 0.25F);
  const dpopt::linear_sequence<float> source{l.a.data(), l.e.data(), 1, positions, l.width, l.width};
  dpopt::workspace scratch;
  for (auto _ : state) benchmark::DoNotOptimize(source.squared_norm_of(0, by_gram, scratch));
}
void sequence_gram(benchmark::State& state) { sequence_norm(state, true); }
void sequence_made(benchmark::State& state) { sequence_norm(state, false); }

BENCHMARK(norms_ours)->Name("squared norms/ours")->Arg(64)->Arg(1024)->Arg(16384)->Arg(262144);
BENCHMARK(read_raw)->Name("squared norms/raw:sum of the numbers")->Arg(64)->Arg(1024)->Arg(16384)->Arg(262144);
BENCHMARK(sum_ours)->Name("weighted sum/ours")->Arg(64)->Arg(1024)->Arg(16384)->Arg(262144);
BENCHMARK(sum_raw)->Name("weighted sum/raw:loop")->Arg(64)->Arg(1024)->Arg(16384)->Arg(262144);
BENCHMARK(linear_ours<dpopt::portable_product>)->Name("linear norms and sum/ours")->Arg(64)->Arg(256)->Arg(1024);
BENCHMARK(linear_raw<dpopt::portable_product>)
    ->Name("linear norms and sum/raw:the product alone")
    ->Arg(64)
    ->Arg(256)
    ->Arg(1024);
#if __has_include(<Eigen/Core>)
using dpopt::eigen::eigen_product;
BENCHMARK(linear_ours<eigen_product>)->Name("linear with eigen_product/ours")->Arg(64)->Arg(256)->Arg(1024);
BENCHMARK(linear_raw<eigen_product>)->Name("linear with eigen_product/raw:Eigen")->Arg(64)->Arg(256)->Arg(1024);
BENCHMARK(linear_ours<dpopt::portable_product>)->Name("linear against Eigen/ours")->Arg(64)->Arg(256)->Arg(1024);
BENCHMARK(linear_raw<eigen_product>)->Name("linear against Eigen/raw:Eigen")->Arg(64)->Arg(256)->Arg(1024);
#endif
BENCHMARK(sequence_gram)
    ->Name("sequence norm/ours")
    ->Args({64, 16})
    ->Args({64, 64})
    ->Args({256, 64})
    ->Args({256, 128})
    ->Args({256, 256});
BENCHMARK(sequence_made)
    ->Name("sequence norm/raw:making the gradient")
    ->Args({64, 16})
    ->Args({64, 64})
    ->Args({256, 64})
    ->Args({256, 128})
    ->Args({256, 256});

} // namespace
