// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// Recorded runs of torch.optim: the gradient that the base optimizer saw at each step, and the parameters after it.
#include "support/catch.hpp"
#include "support/golden_case.hpp"
#include "support/golden_optimizers.hpp"

#include <algorithm>
#include <array>
#include <vector>

using namespace dpopt;
using namespace dpopt::testing;

namespace {

// Replays every parameter of a case in T and returns the largest relative difference to the record.
template <class T, class B>
double worst_difference(const golden_case& c, const B& optimizer) {
  optimizer.validate();
  double worst = 0;
  for (std::size_t p = 0; p < c.shapes.size(); ++p) {
    const auto size = static_cast<std::size_t>(c.size(p));
    std::vector<T> x(c.initial_params[p].begin(), c.initial_params[p].end());
    std::array<std::vector<T>, B::slots> state;
    std::array<T*, B::slots> slots{};
    for (std::size_t k = 0; k < B::slots; ++k) {
      state[k].assign(size, T{0});
      slots[k] = state[k].data();
    }
    for (std::size_t step = 0; step < c.ranks[0].steps.size(); ++step) {
      const golden_step& recorded = c.ranks[0].steps[step];
      const std::vector<T> g(recorded.grad[p].begin(), recorded.grad[p].end());
      optimizer.at(step).update(x.data(), g.data(), slots, static_cast<isize>(size));
      for (std::size_t i = 0; i < size; ++i) {
        worst = std::max(worst, relative_difference(static_cast<double>(x[i]), recorded.params[p][i]));
      }
    }
  }
  return worst;
}

} // namespace

TEST_CASE("every recorded run of torch's optimizers is reproduced") {
  for (const golden_case& c : load_golden_cases("DPOPT_GOLDEN_OPACUS", DPOPT_TEST_DATA "/opacus")) {
    INFO(c.name << " " << c.optimizer.dump());
    with_optimizer(c.optimizer, [&](const auto& optimizer) {
      CHECK(worst_difference<double>(c, optimizer) <= 1e-12);
      CHECK(worst_difference<float>(c, optimizer) <= 2e-5);
    });
  }
}
