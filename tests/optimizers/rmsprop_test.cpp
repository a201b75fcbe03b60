// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/optimizers/rmsprop.hpp"
#include "support/catch.hpp"
#include "support/replay.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

using namespace dpopt;
using namespace dpopt::testing;

namespace {

// torch.optim.RMSprop of one number, as its documentation writes the algorithm.
auto reference(const rmsprop& o) {
  return [o](long double x, const std::vector<long double>& gradients) {
    long double v = 0, mean = 0, b = 0;
    std::vector<long double> values;
    for (long double g : gradients) {
      if (o.maximize) g = -g;
      g += o.weight_decay * x;
      v = o.alpha * v + (1 - o.alpha) * g * g;
      long double square = v;
      if (o.centered) {
        mean = o.alpha * mean + (1 - o.alpha) * g;
        square -= mean * mean;
      }
      const long double direction = g / (std::sqrt(std::max(square, 0.0L)) + o.eps);
      b = o.momentum * b + direction;
      x -= o.learning_rate * (o.momentum > 0 ? b : direction);
      values.push_back(x);
    }
    return values;
  };
}

const std::vector<rmsprop> variants{
    {},
    {.learning_rate = 0.02, .alpha = 0.9, .eps = 1e-3, .weight_decay = 0.1},
    {.learning_rate = 0.02, .alpha = 0.9, .momentum = 0.7},
    {.learning_rate = 0.02, .alpha = 0.9, .weight_decay = 0.1, .centered = true},
    {.learning_rate = 0.02, .alpha = 0.9, .momentum = 0.7, .centered = true, .maximize = true},
};

} // namespace

TEST_CASE("rmsprop follows torch's algorithm in every variant") {
  for (const rmsprop& o : variants) {
    INFO("alpha " << o.alpha << " decay " << o.weight_decay << " momentum " << o.momentum << " centered "
                  << o.centered);
    CHECK_NOTHROW(o.validate());
    CHECK(worst_difference_to<double>(o, reference(o)) <= 1e-13);
    CHECK(worst_difference_to<float>(o, reference(o)) <= 2e-5);
  }
}

TEST_CASE("rmsprop gives the same bits in tiles of any size") {
  for (const rmsprop& o : variants) {
    CHECK(tiles_change_nothing<double>(o));
    CHECK(tiles_change_nothing<float>(o));
  }
}

TEST_CASE("rmsprop touches only the slots of its variant") {
  double x = 1, v = 0, b = 42, mean = 43;
  const double g = 2;
  rmsprop{}.at(0).update(&x, &g, std::array{&v, &b, &mean}, 1);
  CHECK(v == Approx(0.04));
  CHECK(b == 42);
  CHECK(mean == 43);
}

TEST_CASE("centered rmsprop stays finite when rounding makes the variance negative") {
  // alpha 0 makes the variance of every step exactly g^2 - g^2.
  const auto x = replay<float>(9, 4, [](std::uint64_t) { return rmsprop{.alpha = 0, .eps = 1, .centered = true}; });
  for (const float value : x.back()) CHECK(std::isfinite(value));
  float y = 1, v = 0.1f, b = 0, mean = 0.5f; // 0.1 < 0.5^2, as rounding could leave it
  const float g = 0;
  rmsprop{.alpha = 1, .eps = 1, .centered = true}.at(5).update(&y, &g, std::array{&v, &b, &mean}, 1);
  CHECK(y == 1);
}

TEST_CASE("the learning rate of rmsprop can change between steps") {
  const auto x = replay<double>(4, 3, [](std::uint64_t t) { return rmsprop{.learning_rate = t < 2 ? 0.5 : 0.0}; });
  CHECK(x[1] != x[0]);
  CHECK(x[2] == x[1]);
}

TEST_CASE("rmsprop refuses bad options by name") {
  CHECK_THROWS_WITH(rmsprop{.learning_rate = NAN}.validate(),
                    "rmsprop: learning_rate is nan; use a finite number, 0 or more");
  CHECK_THROWS_WITH(rmsprop{.alpha = 1.5}.validate(), "rmsprop: alpha is 1.5; use a number in [0, 1]");
  CHECK_THROWS_WITH(rmsprop{.eps = -1}.validate(), "rmsprop: eps is -1; use a finite number, 0 or more");
  CHECK_THROWS_WITH(rmsprop{.weight_decay = -1}.validate(),
                    "rmsprop: weight_decay is -1; use a finite number, 0 or more");
  CHECK_THROWS_WITH(rmsprop{.momentum = -1}.validate(), "rmsprop: momentum is -1; use a finite number, 0 or more");
}
