// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Question: how does the time of a whole private step (clip, sum, noise, SGD) grow with the number of samples B, the
/// size P of a parameter, the number K of parameters and the number T of a sample's positions? The figure is the
/// exponent of a power law fitted to three decades, beside 1, which is linear; "steepest decade" is the largest
/// exponent between two neighbouring sizes. A smoke run (DPOPT_BENCH_QUICK) leaves the largest size out.
#include "dpopt/accounting/no_accountant.hpp"
#include "dpopt/clipping/flat.hpp"
#include "dpopt/clipping/per_layer.hpp"
#include "dpopt/dp_optimizer/dp_optimizer.hpp"
#include "dpopt/gradients/linear_sequence.hpp"
#include "dpopt/gradients/linear_weight.hpp"
#include "dpopt/gradients/materialized.hpp"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdlib>
#include <ctime>
#include <span>
#include <string>
#include <vector>

namespace {

using dpopt::isize;

struct sizes {
  isize batch, inputs, outputs, parameters; ///< each parameter has inputs x outputs numbers
  isize positions = 1;
};

enum class gradients { materialized, factored, sequence, sequence_without_rows };

[[nodiscard]] std::vector<float> numbers(isize n) { return std::vector<float>(static_cast<std::size_t>(n), 0.01F); }

/// Seconds a step, the best of some runs.
template <class Clipper, gradients How>
double seconds(const sizes& s) {
  const isize each = s.inputs * s.outputs;
  std::vector<float> values = numbers(each * s.parameters);
  const std::vector<float> a = numbers(s.batch * s.positions * s.inputs);
  const std::vector<float> e = numbers(s.batch * s.positions * s.outputs);
  const std::vector<float> rows = numbers(How == gradients::materialized ? s.batch * each * s.parameters : 0);
  std::vector<std::string> names;
  for (isize p = 0; p < s.parameters; ++p) names.push_back("p" + std::to_string(p));
  std::vector<dpopt::parameter_view<float>> views;
  for (isize p = 0; p < s.parameters; ++p)
    views.push_back({names[static_cast<std::size_t>(p)],
                     std::span(values).subspan(static_cast<std::size_t>(p * each), static_cast<std::size_t>(each)),
                     {}});
  dpopt::dp_optimizer opt(views, dpopt::dp_options{}, Clipper{1.0}, dpopt::sgd{},
                          dpopt::counter_gaussian{.noise_multiplier = 1.0}, dpopt::no_accountant{},
                          dpopt::expected_batch{static_cast<double>(s.batch)});
  if constexpr (How == gradients::sequence_without_rows) opt.keep_rows(0);
  const auto step = [&] {
    opt.begin({.samples = s.batch});
    for (isize p = s.parameters - 1; p >= 0; --p)
      if constexpr (How == gradients::factored)
        opt.gradient_ready(p, dpopt::linear_weight<float>{a.data(), e.data(), s.batch, s.inputs, s.outputs});
      else if constexpr (How != gradients::materialized)
        opt.gradient_ready(
            p, dpopt::linear_sequence<float>{a.data(), e.data(), s.batch, s.positions, s.inputs, s.outputs});
      else opt.gradient_ready(p, dpopt::materialized(rows.data() + p * s.batch * each, s.batch, each));
    opt.step();
  };
  const auto taken = [&](int steps) { // processor time: other programs' share of a busy machine does not count
    const std::clock_t start = std::clock();
    for (int k = 0; k < steps; ++k) step();
    return static_cast<double>(std::clock() - start) / static_cast<double>(CLOCKS_PER_SEC);
  };
  step();
  int steps = 1;
  while (taken(steps) < 2e-3) steps *= 2; // the clock counts microseconds
  double fastest = 1e9;
  for (int turn = 0; turn < 5; ++turn) fastest = std::min(fastest, taken(steps) / steps);
  return fastest;
}

/// Slope of log(time) over equally spaced logarithms of a size, a decade apart.
[[nodiscard]] double fitted(const std::vector<double>& logs) {
  const auto n = static_cast<double>(logs.size());
  double sum = 0, squares = 0;
  for (std::size_t i = 0; i < logs.size(); ++i) {
    const double x = static_cast<double>(i) - (n - 1) / 2;
    sum += x * logs[i];
    squares += x * x;
  }
  return sum / squares;
}
[[nodiscard]] double steepest(const std::vector<double>& logs) {
  double most = -1e9;
  for (std::size_t i = 1; i < logs.size(); ++i) most = std::max(most, logs[i] - logs[i - 1]);
  return most;
}

template <class Clipper, gradients How>
void curve(const std::string& question, std::vector<sizes> points) {
  if (std::getenv("DPOPT_BENCH_QUICK") != nullptr) points.pop_back();
  const auto figure = [&points](auto exponent) {
    return [points, exponent](benchmark::State& state) {
      for (auto _ : state) {
        std::vector<double> logs;
        for (const sizes& s : points) logs.push_back(std::log10(seconds<Clipper, How>(s)));
        state.counters["exponent"] = exponent(logs);
      }
    };
  };
  const auto linear = [](benchmark::State& state) {
    for (auto _ : state) state.counters["exponent"] = 1;
  };
  const auto add = [&](const std::string& name, auto exponent) {
    benchmark::RegisterBenchmark((name + "/ours").c_str(), figure(exponent))->Iterations(1);
    benchmark::RegisterBenchmark((name + "/raw:linear").c_str(), linear)->Iterations(1);
  };
  add(question, fitted);
  add(question + ", steepest decade", steepest);
}

[[maybe_unused]] const bool registered = [] {
  using dpopt::flat;
  using dpopt::per_layer;
  curve<per_layer, gradients::materialized>("B 10 to 10000, materialized",
                                            {{10, 32, 32, 1}, {100, 32, 32, 1}, {1000, 32, 32, 1}, {10000, 32, 32, 1}});
  curve<per_layer, gradients::factored>("B 10 to 10000, factored",
                                        {{10, 32, 32, 1}, {100, 32, 32, 1}, {1000, 32, 32, 1}, {10000, 32, 32, 1}});
  curve<per_layer, gradients::materialized>(
      "P 1e3 to 1e6, materialized", {{16, 32, 32, 1}, {16, 100, 100, 1}, {16, 316, 316, 1}, {16, 1000, 1000, 1}});
  curve<per_layer, gradients::factored>("P 1e3 to 1e6, factored",
                                        {{16, 32, 32, 1}, {16, 100, 100, 1}, {16, 316, 316, 1}, {16, 1000, 1000, 1}});
  curve<per_layer, gradients::materialized>("K 10 to 10000, per layer",
                                            {{16, 8, 8, 10}, {16, 8, 8, 100}, {16, 8, 8, 1000}, {16, 8, 8, 10000}});
  curve<flat, gradients::materialized>("K 10 to 10000, flat",
                                       {{16, 8, 8, 10}, {16, 8, 8, 100}, {16, 8, 8, 1000}, {16, 8, 8, 10000}});
  for (const isize d : {64, 256}) { // flat with a second parameter, or the norm would not be a shared one
    const std::string square = std::to_string(d) + " x " + std::to_string(d);
    curve<per_layer, gradients::sequence>("T 1 to 1000, " + square,
                                          {{8, d, d, 1, 1}, {8, d, d, 1, 10}, {8, d, d, 1, 100}, {8, d, d, 1, 1000}});
    curve<flat, gradients::sequence>("T 1 to 1000, flat, " + square,
                                     {{8, d, d, 2, 1}, {8, d, d, 2, 10}, {8, d, d, 2, 100}, {8, d, d, 2, 1000}});
    curve<flat, gradients::sequence_without_rows>(
        "T 1 to 1000, flat without rows, " + square,
        {{8, d, d, 2, 1}, {8, d, d, 2, 10}, {8, d, d, 2, 100}, {8, d, d, 2, 1000}});
  }
  return true;
}();

} // namespace
