// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/optimizers/adam.hpp"
#include "dpopt/optimizers/adamw.hpp"
#include "dpopt/optimizers/amsgrad.hpp"
#include "support/catch.hpp"
#include "support/replay.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <vector>

using namespace dpopt;
using namespace dpopt::testing;

namespace {

// torch.optim.Adam and AdamW of one number, as their documentation writes the algorithm. torch computes the factors
// 1 - beta^t in double, and 1 - 0.999 has only 13 good digits there, so the reference does the same.
template <class O>
auto reference(const O& o, bool with_maximum, bool decoupled) {
  return [=](long double x, const std::vector<long double>& gradients) {
    long double m = 0, v = 0, largest = 0;
    std::vector<long double> values;
    for (std::size_t t = 0; t < gradients.size(); ++t) {
      long double g = o.maximize ? -gradients[t] : gradients[t];
      if (decoupled) x -= o.learning_rate * o.weight_decay * x;
      if (!decoupled) g += o.weight_decay * x;
      m = o.beta1 * m + (1 - o.beta1) * g;
      v = o.beta2 * v + (1 - o.beta2) * g * g;
      largest = std::max(largest, v);
      const double correction1 = 1 - std::pow(o.beta1, static_cast<double>(t + 1));
      const double correction2 = 1 - std::pow(o.beta2, static_cast<double>(t + 1));
      const long double second = with_maximum ? largest : v;
      x -= o.learning_rate / correction1 * m / (std::sqrt(second) / std::sqrt(correction2) + o.eps);
      values.push_back(x);
    }
    return values;
  };
}

template <class O>
void check(const O& o, bool with_maximum, bool decoupled) {
  INFO("lr " << o.learning_rate << " beta " << o.beta1 << " " << o.beta2 << " eps " << o.eps << " decay "
             << o.weight_decay << " maximize " << o.maximize << " max " << with_maximum << " decoupled " << decoupled);
  CHECK_NOTHROW(o.validate());
  CHECK(worst_difference_to<double>(o, reference(o, with_maximum, decoupled)) <= 1e-13);
  CHECK(worst_difference_to<float>(o, reference(o, with_maximum, decoupled)) <= 2e-5);
  CHECK(tiles_change_nothing<double>(o));
  CHECK(tiles_change_nothing<float>(o));
}

} // namespace

TEST_CASE("adam, adamw and amsgrad follow torch's algorithm in every variant, in tiles of any size") {
  check(adam{}, false, false);
  check(adam{.learning_rate = 0.05, .beta1 = 0.8, .beta2 = 0.95, .eps = 1e-3, .weight_decay = 0.1}, false, false);
  check(adam{.learning_rate = 0.05, .beta1 = 0, .beta2 = 0, .weight_decay = 0.1, .maximize = true}, false, false);
  check(adamw{}, false, true);
  check(adamw{.learning_rate = 0.05, .beta1 = 0.8, .beta2 = 0.95, .weight_decay = 0.3, .maximize = true}, false, true);
  check(amsgrad{}, true, false);
  check(amsgrad{.learning_rate = 0.05, .beta1 = 0.8, .beta2 = 0.5, .eps = 1e-3, .weight_decay = 0.1}, true, false);
  check(amsgrad{.learning_rate = 0.05, .beta2 = 0.5, .weight_decay = 0.1, .decoupled = true, .maximize = true}, true,
        true);
}

TEST_CASE("the variants of adam differ where they should") {
  const auto run = [](const auto& o) { return replay<double>(6, 6, [&](std::uint64_t) { return o; }).back(); };
  CHECK(run(adam{.beta2 = 0.5}) != run(amsgrad{.beta2 = 0.5}));
  CHECK(run(adam{.weight_decay = 0.1}) != run(adamw{.weight_decay = 0.1}));
  CHECK(run(adam{}) == run(adamw{.weight_decay = 0}));
}

TEST_CASE("eps stands outside the root") {
  double x = 0, m = 0, v = 0;
  const double g = 1;
  // After one step the corrected moments are g and g^2: x = -lr g / (|g| + eps).
  adam{.learning_rate = 1, .eps = 0.25}.at(0).update(&x, &g, std::array{&m, &v}, 1);
  CHECK(x == Approx(-0.8).epsilon(1e-12));
}

TEST_CASE("the learning rate of adam can change between steps") {
  const auto x = replay<double>(4, 3, [](std::uint64_t t) { return adam{.learning_rate = t < 2 ? 0.5 : 0.0}; });
  CHECK(x[1] != x[0]);
  CHECK(x[2] == x[1]);
}

TEST_CASE("adam, adamw and amsgrad refuse bad options by name") {
  CHECK_THROWS_WITH(adam{.learning_rate = -1}.validate(), "adam: learning_rate is -1; use a finite number, 0 or more");
  CHECK_THROWS_WITH(adam{.beta1 = 1}.validate(), "adam: beta1 is 1; use a number in [0, 1)");
  CHECK_THROWS_WITH(adamw{.beta2 = -0.5}.validate(), "adamw: beta2 is -0.5; use a number in [0, 1)");
  CHECK_THROWS_WITH(adamw{.weight_decay = NAN}.validate(),
                    "adamw: weight_decay is nan; use a finite number, 0 or more");
  CHECK_THROWS_WITH(amsgrad{.eps = -1}.validate(), "amsgrad: eps is -1; use a finite number, 0 or more");
  CHECK_THROWS_WITH(amsgrad{.beta2 = NAN}.validate(), "amsgrad: beta2 is nan; use a number in [0, 1)");
}
