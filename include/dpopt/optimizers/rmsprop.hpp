// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// RMSprop, plain or centered, with momentum and L2 weight decay, as torch.optim.RMSprop.
///
/// With g = gradient + weight_decay x:
///   v = alpha v + (1 - alpha) g^2;  centered: a = alpha a + (1 - alpha) g, r = sqrt(v - a^2);  else r = sqrt(v)
///   momentum 0: x -= lr g / (r + eps);  else b = momentum b + g / (r + eps), x -= lr b
/// v - a^2 is a variance that rounding can make negative (equal gradients): it is then 0, where torch gives NaN.
#pragma once

#include "dpopt/core/platform.hpp"
#include "dpopt/core/types.hpp"
#include "dpopt/optimizers/base_optimizer.hpp"
#include "dpopt/optimizers/option_check.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>

namespace dpopt {

/// Constants of one step of rmsprop. Arithmetic is done in T.
struct rmsprop_step {
  double learning_rate;
  double alpha;
  double eps;
  double weight_decay;
  double momentum;
  double sign; ///< -1 when maximizing
  bool centered;

  /// x, g and each slot hold n elements. Any split of a parameter into tiles gives the same bits.
  template <class T>
  DPOPT_DEVICE void update(T* x, const T* g, std::array<T*, 3> slots, isize n) const {
    // Four loops without a branch inside; a variant never touches the slots that it does not need.
    if (centered) return momentum > 0 ? run<T, true, true>(x, g, slots, n) : run<T, true, false>(x, g, slots, n);
    return momentum > 0 ? run<T, false, true>(x, g, slots, n) : run<T, false, false>(x, g, slots, n);
  }

private:
  template <class T, bool Centered, bool Momentum>
  DPOPT_DEVICE void run(T* x, const T* g, std::array<T*, 3> slots, isize n) const {
    const T lr = static_cast<T>(learning_rate), a = static_cast<T>(alpha), w = static_cast<T>(1 - alpha);
    const T e = static_cast<T>(eps), l2 = static_cast<T>(weight_decay), mu = static_cast<T>(momentum);
    const T s = static_cast<T>(sign);
    T* const v = slots[0];
    for (isize i = 0; i < n; ++i) {
      const T d = s * g[i] + l2 * x[i];
      v[i] = a * v[i] + w * d * d;
      T square = v[i];
      if constexpr (Centered) {
        slots[2][i] += w * (d - slots[2][i]);
        square = std::max(square - slots[2][i] * slots[2][i], T{0});
      }
      T direction = d / (std::sqrt(square) + e);
      if constexpr (Momentum) slots[1][i] = direction = mu * slots[1][i] + direction;
      x[i] -= lr * direction;
    }
  }
};

/// Options of torch.optim.RMSprop with its defaults. The learning rate may be changed between steps.
struct rmsprop {
  using role = roles::base_optimizer;
  static constexpr std::size_t slots = 3; ///< mean square, momentum buffer, mean (centered only)

  double learning_rate = 1e-2;
  double alpha = 0.99; ///< decay rate of the means
  double eps = 1e-8;
  double weight_decay = 0;
  double momentum = 0;
  bool centered = false;
  bool maximize = false;

  /// The momentum buffer and the mean belong to variants.
  [[nodiscard]] constexpr bool uses_slot(std::size_t slot) const {
    return slot == 0 || (slot == 1 ? momentum > 0 : centered);
  }

  using options_of = rmsprop;
  /// The options, for describe() of the optimizer and for comparison between ranks.
  template <class F>
  constexpr void visit_options(F&& f) const {
    f("learning_rate", learning_rate);
    f("alpha", alpha);
    f("eps", eps);
    f("weight_decay", weight_decay);
    f("momentum", momentum);
    f("centered", centered);
    f("maximize", maximize);
  }
  [[nodiscard]] std::string describe() const { return detail::options_text("rmsprop", *this); }

  /// @throw invalid_argument naming the option that is not finite, negative, or an alpha outside [0, 1].
  void validate() const {
    detail::require_not_negative("rmsprop", "learning_rate", learning_rate);
    detail::require_option(alpha >= 0 && alpha <= 1, "rmsprop", "alpha", alpha, "a number in [0, 1]");
    detail::require_not_negative("rmsprop", "eps", eps);
    detail::require_not_negative("rmsprop", "weight_decay", weight_decay);
    detail::require_not_negative("rmsprop", "momentum", momentum);
  }

  /// Constants of a step; they do not depend on how many came before.
  [[nodiscard]] rmsprop_step at(std::uint64_t /*t*/) const {
    return {learning_rate, alpha, eps, weight_decay, momentum, maximize ? -1.0 : 1.0, centered};
  }
};

static_assert(BaseOptimizer<rmsprop, float> && BaseOptimizer<rmsprop, double>);

} // namespace dpopt
