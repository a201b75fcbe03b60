// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Question: what do norms and weighted sum of a linear layer [width x width] on a batch of 256 cost with the machine's
/// BLAS against its product alone, and the portable product against BLAS?
#include "dpopt/blas/blas_product.hpp"
#include "dpopt/gradients/linear_weight.hpp"

#include <benchmark/benchmark.h>

#include <cstddef>
#include <vector>

namespace {

using dpopt::isize;
using dpopt::blas::blas_product;

constexpr isize batch = 256;

struct layer {
  isize width;
  std::vector<float> a = std::vector<float>(static_cast<std::size_t>(batch * width), 0.5F);
  std::vector<float> e = std::vector<float>(a.size(), 0.25F);
  std::vector<float> out = std::vector<float>(static_cast<std::size_t>(width * width));
};

template <class Product>
void both_questions(benchmark::State& state) {
  layer l{.width = state.range(0)};
  const dpopt::linear_weight<float, Product> source{l.a.data(), l.e.data(), batch, l.width, l.width};
  const std::vector<double> factors(batch, 0.5);
  std::vector<double> norms(batch);
  dpopt::workspace scratch;
  for (auto _ : state) {
    source.add_squared_norms({0, batch}, norms.data(), scratch);
    source.add_weighted_sum({0, batch}, factors.data(), l.out.data(), scratch);
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * batch * l.width * l.width);
}

void product_alone(benchmark::State& state) {
  layer l{.width = state.range(0)};
  const dpopt::strided_rows<const float> a{l.a.data(), l.width}, e{l.e.data(), l.width};
  dpopt::workspace scratch;
  for (auto _ : state) {
    blas_product{}.add(l.width, l.width, batch, e, a, dpopt::strided_rows<float>{l.out.data(), l.width}, scratch);
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * batch * l.width * l.width);
}

BENCHMARK(both_questions<blas_product>)->Name("linear with blas_product/ours")->Arg(64)->Arg(256)->Arg(1024);
BENCHMARK(product_alone)->Name("linear with blas_product/raw:BLAS")->Arg(64)->Arg(256)->Arg(1024);
BENCHMARK(both_questions<dpopt::portable_product>)->Name("linear against BLAS/ours")->Arg(64)->Arg(256)->Arg(1024);
BENCHMARK(product_alone)->Name("linear against BLAS/raw:BLAS")->Arg(64)->Arg(256)->Arg(1024);

} // namespace
