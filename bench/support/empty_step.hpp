// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// A private step over no samples: the release alone, in one pass of noise, scale and update.
#pragma once

#include "dpopt/accounting/no_accountant.hpp"
#include "dpopt/clipping/per_layer.hpp"
#include "dpopt/dp_optimizer/dp_optimizer.hpp"
#include "dpopt/gradients/materialized.hpp"
#include "dpopt/noise/counter_gaussian.hpp"

#include <benchmark/benchmark.h>

#include <cstddef>
#include <vector>

namespace bench {

using dpopt::isize;

/// Times steps with the base optimizer on one parameter of `size` floats.
template <class Base>
void empty_steps(benchmark::State& state, Base base, isize size) {
  std::vector<float> w(static_cast<std::size_t>(size), 1.0F);
  const std::vector<dpopt::parameter_view<float>> views{{"w", w}};
  dpopt::dp_optimizer opt(views, dpopt::dp_options{}, dpopt::per_layer{1.0}, base,
                          dpopt::counter_gaussian{.noise_multiplier = 1}, dpopt::no_accountant{},
                          dpopt::expected_batch{32.0});
  for (auto _ : state) {
    opt.begin({.samples = 0});
    opt.gradient_ready(0, dpopt::materialized(static_cast<const float*>(nullptr), 0, size));
    opt.step();
    benchmark::ClobberMemory();
  }
  state.SetItemsProcessed(state.iterations() * size);
}

} // namespace bench
