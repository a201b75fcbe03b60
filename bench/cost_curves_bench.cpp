// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Question: how does the time of a whole private step (clip, sum, noise, SGD) grow with the number of samples B, the
/// size P of a parameter and the number K of parameters? The figure is the exponent of a power law fitted to three
/// decades, beside 1, which is linear; "steepest decade" is the largest exponent between two neighbouring sizes.
#include "dpopt/accounting/no_accountant.hpp"
#include "dpopt/clipping/flat.hpp"
#include "dpopt/clipping/per_layer.hpp"
#include "dpopt/dp_optimizer/dp_optimizer.hpp"
#include "dpopt/gradients/linear_weight.hpp"
#include "dpopt/gradients/materialized.hpp"

#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstddef>
#include <span>
#include <string>
#include <vector>

namespace {

using dpopt::isize;

struct sizes {
  isize batch, inputs, outputs, parameters; ///< each parameter has inputs x outputs numbers
};

[[nodiscard]] std::vector<float> numbers(isize n) { return std::vector<float>(static_cast<std::size_t>(n), 0.01F); }

/// Seconds of the fastest of some steps.
template <class Clipper, bool Factored>
double seconds(const sizes& s) {
  const isize each = s.inputs * s.outputs;
  std::vector<float> values = numbers(each * s.parameters);
  const std::vector<float> a = numbers(s.batch * s.inputs), e = numbers(s.batch * s.outputs);
  const std::vector<float> rows = numbers(Factored ? 0 : s.batch * each * s.parameters);
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
  const auto step = [&] {
    opt.begin({.samples = s.batch});
    for (isize p = s.parameters - 1; p >= 0; --p)
      if constexpr (Factored)
        opt.gradient_ready(p, dpopt::linear_weight<float>{a.data(), e.data(), s.batch, s.inputs, s.outputs});
      else opt.gradient_ready(p, dpopt::materialized(rows.data() + p * s.batch * each, s.batch, each));
    opt.step();
  };
  step();
  double fastest = 1e9, all = 0;
  for (int turn = 0; turn < 3 || (turn < 200 && all < 0.02); ++turn) {
    const auto start = std::chrono::steady_clock::now();
    step();
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - start;
    fastest = std::min(fastest, taken.count());
    all += taken.count();
  }
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

template <class Clipper, bool Factored>
void curve(const std::string& question, const std::vector<sizes>& points) {
  const auto figure = [&points](auto exponent) {
    return [points, exponent](benchmark::State& state) {
      for (auto _ : state) {
        std::vector<double> logs;
        for (const sizes& s : points) logs.push_back(std::log10(seconds<Clipper, Factored>(s)));
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
  curve<per_layer, false>("B 10 to 10000, materialized",
                          {{10, 32, 32, 1}, {100, 32, 32, 1}, {1000, 32, 32, 1}, {10000, 32, 32, 1}});
  curve<per_layer, true>("B 10 to 10000, factored",
                         {{10, 32, 32, 1}, {100, 32, 32, 1}, {1000, 32, 32, 1}, {10000, 32, 32, 1}});
  curve<per_layer, false>("P 1e3 to 1e6, materialized",
                          {{16, 32, 32, 1}, {16, 100, 100, 1}, {16, 316, 316, 1}, {16, 1000, 1000, 1}});
  curve<per_layer, true>("P 1e3 to 1e6, factored",
                         {{16, 32, 32, 1}, {16, 100, 100, 1}, {16, 316, 316, 1}, {16, 1000, 1000, 1}});
  curve<per_layer, false>("K 10 to 10000, per layer",
                          {{16, 8, 8, 10}, {16, 8, 8, 100}, {16, 8, 8, 1000}, {16, 8, 8, 10000}});
  curve<flat, false>("K 10 to 10000, flat", {{16, 8, 8, 10}, {16, 8, 8, 100}, {16, 8, 8, 1000}, {16, 8, 8, 10000}});
  return true;
}();

} // namespace
