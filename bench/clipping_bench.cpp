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

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
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

/// Norm and sum of each row back to back, as one would write it for one parameter and one bound.
void raw(benchmark::State& state) {
  batch b(state.range(0), 1);
  for (auto _ : state) {
    for (isize i = 0; i < b.samples; ++i) {
      const float* row = b.data.data() + i * b.width;
      double squares[8] = {};
      for (isize k = 0; k < b.width; k += 8)
        for (isize j = 0; j < 8; ++j) squares[j] += static_cast<double>(row[k + j]) * static_cast<double>(row[k + j]);
      double s = 0;
      for (const double q : squares) s += q;
      const float factor = static_cast<float>(std::min(1.0, 1.0 / (std::sqrt(s) + 1e-6)));
      for (isize k = 0; k < b.width; ++k) b.sum[static_cast<std::size_t>(k)] += factor * row[k];
    }
    benchmark::ClobberMemory();
  }
  state.SetBytesProcessed(state.iterations() * total * static_cast<isize>(sizeof(float)));
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

} // namespace
