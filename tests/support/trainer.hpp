// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// One small model with an optimizer on it and what its probes saw, for tests of the order of calls.
#pragma once

#include "dpopt/clipping/per_layer.hpp"
#include "dpopt/dp_optimizer/dp_optimizer.hpp"
#include "support/catch.hpp"
#include "support/probes.hpp"

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace dpopt::test {

inline constexpr std::array<double, 3> bounds{0.9, 0.4, 0.3};
inline constexpr double multiplier = 0.5;
inline constexpr double expected_size = 8;
inline const double layered_std = multiplier * std::sqrt(0.9 * 0.9 + 0.4 * 0.4 + 0.3 * 0.3);

// A model, an optimizer on it and what the probes saw. sgd with momentum, so that a step that should not have happened
// shows in the steps after it.
template <class When>
struct trainer {
  using optimizer = dp_optimizer<double, per_layer, probe_noise, probe_accountant, expected_batch, sgd, When>;
  small_model model;
  journal log;
  optimizer opt;

  trainer()
      : opt(model.views(), dp_options{}, per_layer{{bounds[0], bounds[1], bounds[2]}}, probe_noise{multiplier, &log},
            probe_accountant{&log}, expected_batch{.expected_batch_size = expected_size},
            sgd{.learning_rate = 0.1, .momentum = 0.9}, When{}) {}

  void begin(const small_batch& b, microbatch m = {}) {
    m.samples = b.samples;
    opt.begin(m);
  }
  void feed(const small_batch& b, microbatch m = {}) {
    begin(b, m);
    b.hand_over(opt);
  }
  // What a step over these batches must release.
  static std::vector<double> released(const std::vector<small_batch>& batches, double iterations = 1) {
    std::vector<double> sum(small_model::total, 0.0);
    for (const small_batch& b : batches) sum = plus(sum, b.clipped_per_layer(bounds));
    return over(plus(sum, layered_std), expected_size * iterations);
  }
};

namespace batches { // `using namespace` where they are wanted: these names are arguments elsewhere

inline const small_batch first(5, 1);
inline const small_batch second(4, 2);
inline const small_batch third(6, 3);

} // namespace batches

// The values after steps over these batches, one batch a step, without anything in between.
template <class When>
std::vector<double> undisturbed(const std::vector<small_batch>& batches) {
  trainer<When> t;
  for (const small_batch& b : batches) {
    t.feed(b);
    t.opt.step();
  }
  return t.model.values();
}

// Whether the step that fails had a batch: without one on any rank there is nothing that noise could be out for.
enum class budget { charged, untouched };

// step() throws E with this text; nothing is released, and the next steps are those of a run in which it never
// happened.
template <class E, class When>
void fails_without_a_trace(trainer<When>& t, const std::string& text, budget b = budget::charged) {
  const std::vector<double> before = t.model.values();
  const std::vector<double> gradients = t.model.released();
  const std::uint64_t updates = t.opt.updates();
  const std::size_t charged = t.log.charged.size();
  bool thrown = false;
  try {
    t.opt.step();
  } catch (const E& e) {
    thrown = true;
    CHECK(std::string(e.what()) == text);
  }
  CHECK(thrown);
  CHECK(t.model.values() == before);
  CHECK(t.model.released() == gradients);
  CHECK(t.opt.updates() == updates);
  CHECK(t.log.noise.empty());
  const std::size_t cost = b == budget::charged ? 1 : 0; // it stays charged: on other ranks noise may be out
  CHECK(t.log.charged.size() == charged + cost);
  t.feed(batches::first);
  CHECK(t.opt.step());
  CHECK(close(t.model.released(), trainer<When>::released({batches::first})));
  t.feed(batches::second);
  CHECK(t.opt.step());
  CHECK(t.model.values() == undisturbed<When>({batches::first, batches::second}));
  CHECK(t.log.charged.size() == charged + cost + 2);
}

} // namespace dpopt::test
