// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Question: does an optimizer behind the BaseOptimizer concept, with its constants computed at every step, cost more
/// than the loop that one would write by hand for the same options? 1024 elements are step()'s tile; 1 Mi leave the
/// caches.
#include "dpopt/optimizers/adam.hpp"
#include "dpopt/optimizers/rmsprop.hpp"
#include "dpopt/optimizers/sgd.hpp"

#include <benchmark/benchmark.h>

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace {

using dpopt::isize;

/// Values, gradient and Slots state arrays of n elements.
template <std::size_t Slots>
struct buffers {
  explicit buffers(isize n) : size(n), x(static_cast<std::size_t>(n), 1.0F), g(x.size(), 0.5F) {
    for (auto& slot : state) slot.assign(x.size(), 0.25F);
  }

  std::array<float*, Slots> slots() {
    std::array<float*, Slots> all{};
    for (std::size_t k = 0; k < Slots; ++k) all[k] = state[k].data();
    return all;
  }

  isize size;
  std::vector<float> x, g;
  std::array<std::vector<float>, Slots> state;
};

/// Runs step(buffers, t) and counts the elements.
template <std::size_t Slots, class Step>
void repeat(benchmark::State& state, Step step) {
  buffers<Slots> b(state.range(0));
  std::uint64_t t = 1;
  for (auto _ : state) {
    step(b, t++);
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * b.size);
}

/// The policy as step() calls it.
template <class Optimizer>
void ours(benchmark::State& state, Optimizer optimizer) {
  repeat<Optimizer::slots>(state, [&optimizer](auto& b, std::uint64_t t) {
    benchmark::DoNotOptimize(optimizer); // its options are not known when this is compiled
    optimizer.at(t).update(b.x.data(), b.g.data(), b.slots(), b.size);
  });
}

void raw_sgd(benchmark::State& state) {
  float lr = 0.125F;
  repeat<1>(state, [&lr](auto& b, std::uint64_t) {
    benchmark::DoNotOptimize(lr);
    float* x = b.x.data();
    const float* g = b.g.data();
    for (isize i = 0; i < b.size; ++i) x[i] -= lr * g[i];
  });
}

void raw_sgd_momentum(benchmark::State& state) {
  float lr = 0.125F, momentum = 0.9F;
  repeat<1>(state, [&](auto& b, std::uint64_t) {
    benchmark::DoNotOptimize(lr);
    benchmark::DoNotOptimize(momentum);
    float* x = b.x.data();
    float* m = b.state[0].data();
    const float* g = b.g.data();
    for (isize i = 0; i < b.size; ++i) {
      m[i] = momentum * m[i] + g[i];
      x[i] -= lr * m[i];
    }
  });
}

void raw_adam(benchmark::State& state) {
  float lr = 0.125F, beta1 = 0.9F, beta2 = 0.999F, eps = 1e-8F;
  repeat<2>(state, [&](auto& b, std::uint64_t t) {
    benchmark::DoNotOptimize(lr);
    benchmark::DoNotOptimize(beta1);
    benchmark::DoNotOptimize(beta2);
    benchmark::DoNotOptimize(eps);
    const float steps = static_cast<float>(t) + 1;
    const float size = lr / (1 - std::pow(beta1, steps));
    const float root = std::sqrt(1 - std::pow(beta2, steps));
    float* x = b.x.data();
    float* m = b.state[0].data();
    float* v = b.state[1].data();
    const float* g = b.g.data();
    for (isize i = 0; i < b.size; ++i) {
      m[i] = beta1 * m[i] + (1 - beta1) * g[i];
      v[i] = beta2 * v[i] + (1 - beta2) * g[i] * g[i];
      x[i] -= size * (m[i] / (std::sqrt(v[i]) / root + eps));
    }
  });
}

void raw_rmsprop(benchmark::State& state) {
  float lr = 0.125F, alpha = 0.99F, eps = 1e-8F;
  repeat<3>(state, [&](auto& b, std::uint64_t) {
    benchmark::DoNotOptimize(lr);
    benchmark::DoNotOptimize(alpha);
    benchmark::DoNotOptimize(eps);
    float* x = b.x.data();
    float* v = b.state[0].data();
    const float* g = b.g.data();
    for (isize i = 0; i < b.size; ++i) {
      v[i] = alpha * v[i] + (1 - alpha) * g[i] * g[i];
      x[i] -= lr * (g[i] / (std::sqrt(v[i]) + eps));
    }
  });
}

void sizes(benchmark::internal::Benchmark* b) { b->Arg(1024)->Arg(1 << 20); }

BENCHMARK_CAPTURE(ours, sgd, dpopt::sgd{})->Name("sgd/ours")->Apply(sizes);
BENCHMARK(raw_sgd)->Name("sgd/raw:loop")->Apply(sizes);
BENCHMARK_CAPTURE(ours, momentum, dpopt::sgd{.momentum = 0.9})->Name("sgd_momentum/ours")->Apply(sizes);
BENCHMARK(raw_sgd_momentum)->Name("sgd_momentum/raw:loop")->Apply(sizes);
BENCHMARK_CAPTURE(ours, adam, dpopt::adam{})->Name("adam/ours")->Apply(sizes);
BENCHMARK(raw_adam)->Name("adam/raw:loop")->Apply(sizes);
BENCHMARK_CAPTURE(ours, rmsprop, dpopt::rmsprop{})->Name("rmsprop/ours")->Apply(sizes);
BENCHMARK(raw_rmsprop)->Name("rmsprop/raw:loop")->Apply(sizes);

} // namespace
