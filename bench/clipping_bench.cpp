// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Question: what does clip and accumulate cost through contributions<Clipper, Accumulator> against one hand-written
/// pass over the rows? 16 MiB of per-sample gradients of one parameter (per_layer), or split over 16 parameters (flat).
#include "dpopt/accumulation/integer_grid.hpp"
#include "dpopt/accumulation/running_sum.hpp"
#include "dpopt/clipping/flat.hpp"
#include "dpopt/clipping/per_layer.hpp"
#include "dpopt/dp_optimizer/contributions.hpp"
#include "dpopt/gradients/materialized.hpp"

#include "support/hand_written.hpp"

#include <benchmark/benchmark.h>

#include <cstddef>
#include <vector>

namespace {

using dpopt::isize;

constexpr isize total = 4 << 20; // floats: 16 MiB

/// `parameters` equal parameters that make up rows of `width` numbers.
struct batch {
  batch(isize row, isize count)
      : width(row), parameters(count), samples(total / row), data(static_cast<std::size_t>(total)),
        sum(static_cast<std::size_t>(row)) {
    for (std::size_t k = 0; k < data.size(); ++k) data[k] = static_cast<float>(k % 7) - 3;
  }
  [[nodiscard]] const float* of(isize p) const { return data.data() + p * samples * (width / parameters); }
  isize width, parameters, samples;
  std::vector<float> data, sum;
};

template <class Clipper, class Sum>
void ours(benchmark::State& state, isize parameters) {
  const batch b(state.range(0), parameters);
  const isize each = b.width / parameters;
  std::vector<dpopt::parameter_info> infos(static_cast<std::size_t>(parameters), {"p", each});
  std::vector<isize> offsets;
  for (isize p = 0; p < parameters; ++p) offsets.push_back(p * each);
  dpopt::contributions<Clipper, Sum> c(Clipper{1.0}, Sum{});
  c.bind(infos, offsets);
  for (auto _ : state) {
    c.begin({.samples = b.samples});
    for (isize p = 0; p < parameters; ++p) c.add(p, dpopt::materialized(b.of(p), b.samples, each), [](isize) {});
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() * total * static_cast<isize>(sizeof(float)));
}

void raw(benchmark::State& state) {
  batch b(state.range(0), 1);
  for (auto _ : state) {
    bench::clip_and_sum(b.data.data(), b.samples, b.width, b.sum.data());
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() * total * static_cast<isize>(sizeof(float)));
}

/// Rows of state.range(0) numbers that fill state.range(1) KiB, clipped layer by layer, and the same memory only read.
template <bool Ours>
void bandwidth(benchmark::State& state) {
  const isize width = state.range(0), numbers = state.range(1) * 256, samples = numbers / width;
  const std::vector<float> data(static_cast<std::size_t>(numbers), 0.5F);
  dpopt::contributions<dpopt::per_layer, dpopt::running_sum<float>> c(dpopt::per_layer{1.0}, {});
  c.bind({{"p", width}}, {0});
  for (auto _ : state) {
    if constexpr (Ours) {
      c.begin({.samples = samples});
      c.add(0, dpopt::materialized(data.data(), samples, width), [](isize) {});
      benchmark::ClobberMemory();
    } else {
      benchmark::DoNotOptimize(bench::read_all(data.data(), numbers));
    }
  }
  state.SetBytesProcessed(state.iterations() * numbers * static_cast<isize>(sizeof(float)));
}

void per_layer_float(benchmark::State& s) { ours<dpopt::per_layer, dpopt::running_sum<float>>(s, 1); }
void per_layer_double(benchmark::State& s) { ours<dpopt::per_layer, dpopt::running_sum<double>>(s, 1); }
void per_layer_grid(benchmark::State& s) { ours<dpopt::per_layer, dpopt::integer_grid>(s, 1); }
void flat_float(benchmark::State& s) { ours<dpopt::flat, dpopt::running_sum<float>>(s, 16); }

BENCHMARK(per_layer_float)->Name("per_layer to float/ours")->Arg(64)->Arg(1024)->Arg(65536);
BENCHMARK(raw)->Name("per_layer to float/raw:one pass")->Arg(64)->Arg(1024)->Arg(65536);
BENCHMARK(per_layer_double)->Name("per_layer to double/ours")->Arg(1024);
BENCHMARK(raw)->Name("per_layer to double/raw:one pass in float")->Arg(1024);
BENCHMARK(per_layer_grid)->Name("per_layer to integer grid/ours")->Arg(1024);
BENCHMARK(raw)->Name("per_layer to integer grid/raw:one pass in float")->Arg(1024);
BENCHMARK(flat_float)->Name("flat over 16 parameters/ours")->Arg(1024)->Arg(65536);
BENCHMARK(raw)->Name("flat over 16 parameters/raw:one pass, one parameter")->Arg(1024)->Arg(65536);
/// What `parameters` of 64 numbers cost against one of as many: 256 samples, per layer or together. In cache for 4
/// parameters, from memory for 200.
template <class Clipper>
void tiny_parameters(benchmark::State& state, isize parameters, isize each) {
  constexpr isize samples = 256;
  const isize total_numbers = parameters * each * samples;
  const std::vector<float> data(static_cast<std::size_t>(total_numbers), 0.5F);
  std::vector<dpopt::parameter_info> infos(static_cast<std::size_t>(parameters), {"p", each});
  std::vector<isize> offsets;
  for (isize p = 0; p < parameters; ++p) offsets.push_back(p * each);
  dpopt::contributions<Clipper, dpopt::running_sum<float>> c(Clipper{1.0}, {});
  c.bind(infos, offsets);
  for (auto _ : state) {
    c.begin({.samples = samples});
    for (isize p = 0; p < parameters; ++p)
      c.add(p, dpopt::materialized(data.data() + p * samples * each, samples, each), [](isize) {});
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() * total_numbers * static_cast<isize>(sizeof(float)));
}
template <class Clipper>
void many_tiny(benchmark::State& state) {
  tiny_parameters<Clipper>(state, state.range(0), 64);
}
template <class Clipper>
void one_large(benchmark::State& state) {
  tiny_parameters<Clipper>(state, 1, 64 * state.range(0));
}

BENCHMARK(many_tiny<dpopt::per_layer>)->Name("vectors of 64, per layer/ours")->Arg(4)->Arg(200);
BENCHMARK(one_large<dpopt::per_layer>)
    ->Name("vectors of 64, per layer/raw:one vector as long as all")
    ->Arg(4)
    ->Arg(200);
BENCHMARK(many_tiny<dpopt::flat>)->Name("vectors of 64, flat/ours")->Arg(4)->Arg(200);
BENCHMARK(one_large<dpopt::flat>)->Name("vectors of 64, flat/raw:one vector as long as all")->Arg(4)->Arg(200);
BENCHMARK(bandwidth<true>)->Name("bandwidth, row and KiB/ours")->ArgsProduct({{64, 1024, 16384, 65536}, {512, 262144}});
BENCHMARK(bandwidth<false>)
    ->Name("bandwidth, row and KiB/raw:sum of the numbers")
    ->ArgsProduct({{64, 1024, 16384, 65536}, {512, 262144}});

} // namespace
