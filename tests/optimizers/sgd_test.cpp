// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/optimizers/sgd.hpp"
#include "support/catch.hpp"
#include "support/replay.hpp"

#include <array>
#include <cmath>
#include <optional>
#include <vector>

using namespace dpopt;
using namespace dpopt::testing;

namespace {

// torch.optim.SGD of one number, as its documentation writes the algorithm.
auto reference(const sgd& o) {
  return [o](long double x, const std::vector<long double>& gradients) {
    std::optional<long double> buffer;
    std::vector<long double> values;
    for (long double g : gradients) {
      if (o.maximize) g = -g;
      if (o.weight_decay != 0) g += o.weight_decay * x;
      if (o.momentum != 0) {
        buffer = buffer ? o.momentum * *buffer + (1 - o.dampening) * g : g;
        g = o.nesterov ? g + o.momentum * *buffer : *buffer;
      }
      x -= o.learning_rate * g;
      values.push_back(x);
    }
    return values;
  };
}

const std::vector<sgd> variants{
    {},
    {.learning_rate = 0.1},
    {.learning_rate = 0.1, .weight_decay = 0.03},
    {.learning_rate = 0.1, .momentum = 0.9},
    {.learning_rate = 0.1, .momentum = 0.9, .dampening = 0.5},
    {.learning_rate = 0.1, .momentum = 0.9, .dampening = 0.5, .weight_decay = 0.03, .maximize = true},
    {.learning_rate = 0.1, .momentum = 0.8, .weight_decay = 0.03, .nesterov = true},
    {.learning_rate = 0.1, .momentum = 0.8, .nesterov = true, .maximize = true},
};

// A user's own optimizer in five lines, and a lambda.
struct sign_descent {
  void operator()(const parameter_update<float>& p) const {
    for (std::size_t i = 0; i < p.value.size(); ++i) p.value[i] -= std::copysign(0.01f, p.gradient[i]);
  }
};
[[maybe_unused]] const auto plain_descent = [](parameter_update<double> p) {
  for (std::size_t i = 0; i < p.value.size(); ++i) p.value[i] -= 0.1 * p.gradient[i];
};
static_assert(BaseOptimizer<sign_descent, float> && !BaseOptimizer<sign_descent, double>);
static_assert(WholeParameterOptimizer<decltype(plain_descent), double>);
static_assert(!ElementwiseOptimizer<sign_descent, float> && !WholeParameterOptimizer<sgd, float>);

} // namespace

TEST_CASE("sgd follows torch's algorithm in every variant") {
  for (const sgd& o : variants) {
    INFO("momentum " << o.momentum << " dampening " << o.dampening << " decay " << o.weight_decay << " nesterov "
                     << o.nesterov << " maximize " << o.maximize);
    CHECK_NOTHROW(o.validate());
    CHECK(worst_difference_to<double>(o, reference(o)) <= 1e-13);
    CHECK(worst_difference_to<float>(o, reference(o)) <= 2e-5);
  }
}

TEST_CASE("sgd gives the same bits in tiles of any size") {
  for (const sgd& o : variants) {
    CHECK(tiles_change_nothing<double>(o));
    CHECK(tiles_change_nothing<float>(o));
  }
}

TEST_CASE("the learning rate of sgd can change between steps") {
  const auto x = replay<double>(4, 3, [](std::uint64_t t) { return sgd{.learning_rate = t < 2 ? 0.5 : 0.0}; });
  CHECK(x[1] != x[0]);
  CHECK(x[2] == x[1]);
}

TEST_CASE("sgd without momentum leaves its slot untouched") {
  double x = 1, b = 42;
  const double g = 2;
  sgd{.learning_rate = 0.25}.at(0).update(&x, &g, std::array{&b}, 1);
  CHECK(x == 0.5);
  CHECK(b == 42);
}

TEST_CASE("sgd refuses bad options by name") {
  CHECK_THROWS_WITH(sgd{.learning_rate = -0.5}.validate(),
                    "sgd: learning_rate is -0.5; use a finite number, 0 or more");
  CHECK_THROWS_WITH(sgd{.learning_rate = NAN}.validate(), "sgd: learning_rate is nan; use a finite number, 0 or more");
  CHECK_THROWS_WITH(sgd{.momentum = -1}.validate(), "sgd: momentum is -1; use a finite number, 0 or more");
  CHECK_THROWS_WITH(sgd{.dampening = INFINITY}.validate(), "sgd: dampening is inf; use a finite number");
  CHECK_THROWS_WITH(sgd{.weight_decay = -2}.validate(), "sgd: weight_decay is -2; use a finite number, 0 or more");
  CHECK_THROWS_WITH(sgd{.nesterov = true}.validate(), "sgd: momentum is 0; use more than 0 with nesterov");
  const sgd dampened{.momentum = 0.5, .dampening = 0.5, .nesterov = true};
  CHECK_THROWS_WITH(dampened.validate(), "sgd: dampening is 0.5; use 0 with nesterov");
}
