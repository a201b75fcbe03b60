// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/optimizers/adagrad.hpp"
#include "support/catch.hpp"
#include "support/replay.hpp"

#include <cmath>
#include <vector>

using namespace dpopt;
using namespace dpopt::testing;

namespace {

// torch.optim.Adagrad of one number, as its documentation writes the algorithm.
auto reference(const adagrad& o) {
  return [o](long double x, const std::vector<long double>& gradients) {
    long double sum = o.initial_accumulator_value;
    std::vector<long double> values;
    for (std::size_t t = 0; t < gradients.size(); ++t) {
      long double g = o.maximize ? -gradients[t] : gradients[t];
      g += o.weight_decay * x;
      sum += g * g;
      const long double rate = o.learning_rate / (1 + static_cast<long double>(t) * o.lr_decay);
      x -= rate * g / (std::sqrt(sum) + o.eps);
      values.push_back(x);
    }
    return values;
  };
}

const std::vector<adagrad> variants{
    {},
    {.learning_rate = 0.1, .lr_decay = 0.3},
    {.learning_rate = 0.1, .weight_decay = 0.05, .initial_accumulator_value = 0.7, .eps = 1e-3},
    {.learning_rate = 0.1, .lr_decay = 0.1, .initial_accumulator_value = 2, .maximize = true},
};

} // namespace

TEST_CASE("adagrad follows torch's algorithm in every variant") {
  for (const adagrad& o : variants) {
    INFO("lr_decay " << o.lr_decay << " decay " << o.weight_decay << " start " << o.initial_accumulator_value);
    CHECK_NOTHROW(o.validate());
    CHECK(worst_difference_to<double>(o, reference(o)) <= 1e-13);
    CHECK(worst_difference_to<float>(o, reference(o)) <= 2e-5);
  }
}

TEST_CASE("adagrad gives the same bits in tiles of any size") {
  for (const adagrad& o : variants) {
    CHECK(tiles_change_nothing<double>(o));
    CHECK(tiles_change_nothing<float>(o));
  }
}

TEST_CASE("the learning rate of adagrad can change between steps") {
  const auto x = replay<double>(4, 3, [](std::uint64_t t) { return adagrad{.learning_rate = t < 2 ? 0.5 : 0.0}; });
  CHECK(x[1] != x[0]);
  CHECK(x[2] == x[1]);
}

TEST_CASE("adagrad refuses bad options by name") {
  CHECK_THROWS_WITH(adagrad{.learning_rate = -1}.validate(),
                    "adagrad: learning_rate is -1; use a finite number, 0 or more");
  CHECK_THROWS_WITH(adagrad{.lr_decay = -1}.validate(), "adagrad: lr_decay is -1; use a finite number, 0 or more");
  CHECK_THROWS_WITH(adagrad{.weight_decay = NAN}.validate(),
                    "adagrad: weight_decay is nan; use a finite number, 0 or more");
  CHECK_THROWS_WITH(adagrad{.initial_accumulator_value = -1}.validate(),
                    "adagrad: initial_accumulator_value is -1; use a finite number, 0 or more");
  CHECK_THROWS_WITH(adagrad{.eps = INFINITY}.validate(), "adagrad: eps is inf; use a finite number, 0 or more");
}
