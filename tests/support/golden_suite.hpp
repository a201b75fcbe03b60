// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The promise "every recorded Opacus run is reproduced", for each of the optimizers that Opacus has; the communicator
/// is the test program's.
#pragma once

#include "support/catch.hpp"

#include "dpopt/accounting/no_accountant.hpp"
#include "dpopt/clipping/flat.hpp"
#include "dpopt/dp_optimizer/per_layer_optimizers.hpp"
#include "dpopt/noise/counter_gaussian.hpp"
#include "support/golden_replay.hpp"

#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace dpopt::testing {

/// All cases of the folder; throws when there is none. Which of them a program can run is its communicator's business.
inline const std::vector<golden_case>& golden_cases() {
  static const std::vector<golden_case> all = load_golden_cases("DPOPT_GOLDEN_OPACUS", DPOPT_TEST_DATA "/opacus");
  return all;
}

/// The seed classes' options of a case.
inline expected_batch scaling_of(const golden_case& c) {
  expected_batch out{.loss_reduction = c.reduction};
  if (c.expected_batch_size > 0) out.expected_batch_size = per_rank{c.expected_batch_size};
  return out;
}
inline per_layer_options options_of(const golden_case& c, const dp_options& other) {
  const expected_batch scaling = scaling_of(c);
  return {.noise_multiplier = 0,
          .max_grad_norm = c.max_grad_norm,
          .expected_batch_size = scaling.expected_batch_size,
          .loss_reduction = scaling.loss_reduction,
          .other = other};
}

/// A replay is the recorded run up to the tolerance, and looked at something.
inline void check_deviation(const deviation& d, double tolerance) {
  CHECK(d.gradient <= tolerance);
  CHECK(d.sum <= tolerance);
  CHECK(d.params <= tolerance);
  CHECK(d.wrong_iterations == 0);
  CHECK(d.wrong_answers == 0);
  CHECK(d.compared > 0);
}

/// Replays one case in every style. Runner::wants(c), Runner::run<T>(c, style, make) -> deviation, where make(views,
/// other, communicator) gives the optimizer. The tolerance is the one that the cases come with.
template <class Runner, class T, class Make>
void check_case(const golden_case& c, Make make) {
  constexpr double tolerance = std::is_same_v<T, float> ? 2e-5 : 1e-12;
  for (const replay_style& style : replay_styles) {
    INFO(c.name << ", " << style.name << ", " << (std::is_same_v<T, float> ? "float" : "double"));
    deviation d;
    REQUIRE_NOTHROW(d = Runner::template run<T>(c, style, make));
    check_deviation(d, tolerance);
  }
}

/// f(c) for every case of the kind that the program can run.
template <class Runner, class F>
void for_each_case(std::string_view kind, F f) {
  REQUIRE_FALSE(golden_cases().empty());
  bool none = true;
  for (const golden_case& c : golden_cases()) {
    if (c.kind != kind || !Runner::wants(c)) continue;
    none = false;
    f(c);
  }
  if (none) WARN("the folder holds no " << kind << " case for this program");
}

/// Fused with each of the library's base optimizers.
template <class Runner, class T>
void check_distributed() {
  for_each_case<Runner>("per_layer", [](const golden_case& c) {
    with_optimizer(c.optimizer, [&](const auto& base) {
      check_case<Runner, T>(c, [&](const auto& views, const dp_options& other, auto comm) {
        return distributed_per_layer_optimizer(views, base, options_of(c, other), std::move(comm), no_accountant{});
      });
    });
  });
}

template <class Runner, class T>
void check_simple() {
  for_each_case<Runner>("per_layer", [](const golden_case& c) {
    check_case<Runner, T>(c, [&](const auto& views, const dp_options& other, auto comm) {
      return simple_distributed_per_layer_optimizer(views, make_any_optimizer<T>(c.optimizer), options_of(c, other),
                                                    std::move(comm), no_accountant{});
    });
  });
}

template <class Runner, class T, class When>
void check_flat() {
  for_each_case<Runner>("flat", [](const golden_case& c) {
    check_case<Runner, T>(c, [&](const auto& views, const dp_options& other, auto comm) {
      return dp_optimizer(views, other, flat{c.max_grad_norm.front()}, counter_gaussian{.noise_multiplier = 0},
                          scaling_of(c), make_any_optimizer<T>(c.optimizer), std::move(comm), no_accountant{}, When{});
    });
  });
}

} // namespace dpopt::testing
