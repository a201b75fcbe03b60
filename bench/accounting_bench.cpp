// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Question: what does asking for epsilon cost, over evaluating the privacy curve once at every order?
#include "dpopt/accounting/rdp_accountant.hpp"

#include <benchmark/benchmark.h>

namespace {

void record_and_ask(benchmark::State& state) {
  dpopt::rdp_accountant accountant;
  for (auto _ : state) {
    accountant.record({.noise_multiplier = 1.1, .sampling_rate = 0.01});
    benchmark::DoNotOptimize(accountant.epsilon(1e-5));
  }
}

void from_nothing(benchmark::State& state) {
  for (auto _ : state) {
    dpopt::rdp_accountant accountant;
    accountant.record({.noise_multiplier = 1.1, .sampling_rate = 0.01});
    benchmark::DoNotOptimize(accountant.epsilon(1e-5));
  }
}

BENCHMARK(record_and_ask)->Name("epsilon after a step/ours");
BENCHMARK(from_nothing)->Name("epsilon after a step/raw:curve evaluated anew");

} // namespace
