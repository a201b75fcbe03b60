// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/optimizers/scale_then_privatize.hpp"

#include "support/catch.hpp"
#include "support/replay.hpp"

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

using namespace dpopt;
using namespace dpopt::testing;

namespace {

using stp = scale_then_privatize<sgd>;

// One optimizer on n numbers, fed with gradients that were divided by its own divisors, as the sources do it.
struct trained {
  stp optimizer;
  std::vector<double> x;
  std::array<std::vector<double>, stp::slots> state = {};
  std::uint64_t steps = 0;

  trained(stp o, std::size_t n) : optimizer(o), x(replay_start<double>(n)) { state.fill(std::vector<double>(n, 0.0)); }
  void step(const std::vector<double>& undivided) {
    std::vector<double> h = undivided;
    for (std::size_t k = 0; k < h.size(); ++k)
      if (divisors()[k] != 0) h[k] /= divisors()[k];
    std::array<double*, stp::slots> slots{};
    for (std::size_t s = 0; s < stp::slots; ++s) slots[s] = state[s].data();
    optimizer.at(steps++).update(x.data(), h.data(), slots, std::ssize(x));
  }
  [[nodiscard]] const std::vector<double>& divisors() const { return state[stp::divisor_slot]; }
};

} // namespace

TEST_CASE("scale_then_privatize: the base optimizer sees the gradient multiplied back") {
  const sgd base{.learning_rate = 0.1, .momentum = 0.9};
  trained ours({.base = base}, 300); // more than a tile
  const auto plain = replay<double>(300, 10, [&](std::uint64_t) { return base; });
  for (std::uint64_t t = 0; t < 10; ++t) {
    ours.step(replay_gradient<double>(300, t));
    for (std::size_t k = 0; k < 300; ++k) REQUIRE(ours.x[k] == Approx(plain[t][k]).epsilon(1e-13).margin(1e-14));
  }
}

TEST_CASE("scale_then_privatize: the divisor is the root of the mean square of windows of `delay` averaged gradients, "
          "plus eps") {
  for (std::uint64_t delay = 1; delay <= 3; ++delay) {
    constexpr double beta = 0.7;
    trained ours({.base = {.learning_rate = 0.1}, .beta = beta, .eps = 0.01, .delay = delay}, 5);
    std::vector<std::vector<long double>> windows;
    std::vector<long double> window(5, 0.0L);
    for (std::uint64_t t = 0; t < 12; ++t) {
      const std::vector<double> g = replay_gradient<double>(5, t);
      ours.step(g);
      for (std::size_t k = 0; k < 5; ++k) window[k] += static_cast<long double>(g[k]) / static_cast<long double>(delay);
      if ((t + 1) % delay == 0) {
        windows.push_back(window);
        window.assign(5, 0.0L);
      }
      for (std::size_t k = 0; k < 5; ++k) {
        long double sum = 0, weights = 0;
        for (std::size_t i = 0; i < windows.size(); ++i) {
          const long double weight =
              std::pow(static_cast<long double>(beta), static_cast<long double>(windows.size() - 1 - i));
          sum += weight * windows[i][k] * windows[i][k];
          weights += weight;
        }
        const double expected = windows.empty() ? 0.0 : static_cast<double>(std::sqrt(sum / weights)) + 0.01;
        REQUIRE(ours.divisors()[k] == Approx(expected).epsilon(1e-12));
      }
    }
  }
}

TEST_CASE("scale_then_privatize: tiles of any size give the same bits") {
  CHECK(tiles_change_nothing<double>(scale_then_privatize<adam>{.beta = 0.9, .delay = 2}));
  CHECK(tiles_change_nothing<float>(scale_then_privatize<adam>{.beta = 0.9}));
}

TEST_CASE("scale_then_privatize: options of both are validated and described") {
  CHECK_NOTHROW(stp{}.validate());
  CHECK_THROWS_AS((stp{.beta = 1}.validate()), invalid_argument);
  CHECK_THROWS_AS((stp{.eps = 0}.validate()), invalid_argument);
  CHECK_THROWS_AS((stp{.eps = std::numeric_limits<double>::quiet_NaN()}.validate()), invalid_argument);
  CHECK_THROWS_AS((stp{.delay = 0}.validate()), invalid_argument);
  CHECK_THROWS_AS((stp{.base = {.learning_rate = -1}}.validate()), invalid_argument);
  CHECK(stp{}.describe() == "scale_then_privatize(" + sgd{}.describe() + ", beta=0.999, eps=1e-08, delay=1)");
}
