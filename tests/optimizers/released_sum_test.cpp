// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/optimizers/released_sum.hpp"

#include "dpopt/accounting/no_accountant.hpp"
#include "dpopt/clipping/per_layer.hpp"
#include "dpopt/dp_optimizer/dp_optimizer.hpp"
#include "dpopt/gradients/materialized.hpp"
#include "dpopt/optimizers/adam.hpp"
#include "dpopt/optimizers/adamw.hpp"
#include "dpopt/optimizers/amsgrad.hpp"
#include "dpopt/optimizers/sgd.hpp"
#include "support/catch.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

using namespace dpopt;

namespace {

constexpr isize size = 1024 + 37; // whole vectors of every level, and a rest

template <class Base>
struct trained {
  std::array<std::vector<float>, Base::slots + 1> arrays; ///< values, then slots
  trained() {
    for (std::size_t k = 0; k < arrays.size(); ++k)
      for (isize i = 0; i < size; ++i) arrays[k].push_back(0.01F * static_cast<float>(i % 17 + isize(k)));
  }
  template <class G>
  void step(const Base& base, const G& gradient) {
    std::array<float*, Base::slots> slots{};
    for (std::size_t k = 0; k < Base::slots; ++k) slots[k] = arrays[k + 1].data();
    base.at(3).update(arrays[0].data(), gradient, slots, size);
  }
};

std::vector<float> some_sum() {
  std::vector<float> sum;
  for (isize i = 0; i < size; ++i) sum.push_back(0.37F * static_cast<float>(i % 29 - 14));
  return sum;
}

template <class Base>
void check_same_bits(const Base& base, float divisor) {
  std::vector<float> sum = some_sum();
  std::vector<float> gradient = sum;
  for (float& g : gradient) g /= divisor;
  trained<Base> stored, taken;
  stored.step(base, gradient.data());
  with_released_sum(sum.data(), divisor, [&](auto released) { taken.step(base, released); });
  CHECK(stored.arrays == taken.arrays);
  CHECK(std::ranges::all_of(sum, [](float x) { return x == 0; })); // what was released is released once
}

TEST_CASE("an update from the released sum has the bits of one from a stored gradient, and leaves the sum at zero") {
  for (const float divisor : {32.0F, 600.0F, 0x1p-20F}) {
    check_same_bits(sgd{.learning_rate = 0.1, .weight_decay = 0.01}, divisor);
    check_same_bits(sgd{.learning_rate = 0.1, .momentum = 0.9, .nesterov = true}, divisor);
    check_same_bits(adam{.weight_decay = 0.01}, divisor);
    check_same_bits(adamw{}, divisor);
    check_same_bits(amsgrad{}, divisor);
  }
}

/// Values after three steps over no samples, with room for the released gradient or without.
template <class Base>
std::vector<float> after_steps(const Base& base, bool with_room, double expected) {
  std::vector<float> value(static_cast<std::size_t>(size), 1.0F);
  std::vector<float> room(with_room ? value.size() : 0);
  const std::vector<parameter_view<float>> views{{"w", value, room}};
  dp_optimizer opt(views, dp_options{}, per_layer{1.0}, base, counter_gaussian{.noise_multiplier = 1, .seed = 7},
                   no_accountant{}, expected_batch{expected});
  for (int step = 0; step < 3; ++step) {
    opt.begin({.samples = 0});
    opt.gradient_ready(0, materialized(static_cast<const float*>(nullptr), 0, size));
    opt.step();
  }
  return value;
}

TEST_CASE("a step that stores no gradient updates with the same one") {
  for (const double expected : {32.0, 600.0}) {
    CHECK(after_steps(sgd{.learning_rate = 0.1}, false, expected) ==
          after_steps(sgd{.learning_rate = 0.1}, true, expected));
    CHECK(after_steps(adam{}, false, expected) == after_steps(adam{}, true, expected));
  }
}

/// A user's: its update() takes whatever it is given, and reads it twice.
struct two_strides {
  using role = roles::base_optimizer;
  static constexpr std::size_t slots = 0;
  struct constants {
    template <class G>
    void update(float* x, const G& g, std::array<float*, 0> /*slots*/, isize n) const {
      sgd{.learning_rate = 0.1}.at(1).update(x, g, {}, n);
      sgd{.learning_rate = 0.2}.at(1).update(x, g, {}, n);
    }
  };
  [[nodiscard]] std::string describe() const { return "two_strides"; }
  void validate() const {}
  [[nodiscard]] constants at(std::uint64_t /*t*/) const { return {}; }
};

TEST_CASE("an update that takes any gradient, and reads it as often as it likes, is given a stored one") {
  CHECK(after_steps(two_strides{}, false, 32.0) == after_steps(two_strides{}, true, 32.0));
  CHECK_FALSE(after_steps(two_strides{}, false, 32.0) == after_steps(sgd{.learning_rate = 0.1}, false, 32.0));
}

} // namespace
