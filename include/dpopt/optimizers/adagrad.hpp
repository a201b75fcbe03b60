// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Adagrad with learning-rate decay and L2 weight decay, as torch.optim.Adagrad.
///
/// With g = gradient + weight_decay x and t = 0, 1, ...:
///   v = v + g^2, from v = initial_accumulator_value;  x -= lr / (1 + t lr_decay) g / (sqrt(v) + eps)
/// Slots start at zero, so the initial value is added by the first step.
#pragma once

#include "dpopt/core/platform.hpp"
#include "dpopt/core/types.hpp"
#include "dpopt/optimizers/base_optimizer.hpp"
#include "dpopt/optimizers/option_check.hpp"

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>

namespace dpopt {

/// Constants of one step of adagrad. Arithmetic is done in T.
struct adagrad_step {
  double learning_rate; ///< decayed
  double start;         ///< added to the sum of squares: the initial value at the first step, later 0
  double eps;
  double weight_decay;
  double sign; ///< -1 when maximizing

  /// x, g and the slot hold n elements. Any split of a parameter into tiles gives the same bits.
  template <class T>
  DPOPT_DEVICE void update(T* x, const T* g, std::array<T*, 1> slots, isize n) const {
    const T lr = static_cast<T>(learning_rate), from = static_cast<T>(start), e = static_cast<T>(eps);
    const T l2 = static_cast<T>(weight_decay), s = static_cast<T>(sign);
    T* const v = slots[0];
    for (isize i = 0; i < n; ++i) {
      const T d = s * g[i] + l2 * x[i];
      v[i] = (v[i] + from) + d * d;
      x[i] -= lr * (d / (std::sqrt(v[i]) + e));
    }
  }
};

/// Options of torch.optim.Adagrad with its defaults. The learning rate may be changed between steps.
struct adagrad {
  using role = roles::base_optimizer;
  static constexpr std::size_t slots = 1; ///< sum of squared gradients

  double learning_rate = 1e-2;
  double lr_decay = 0;
  double weight_decay = 0;
  double initial_accumulator_value = 0;
  double eps = 1e-10;
  bool maximize = false;

  using options_of = adagrad;
  /// The options, for describe() of the optimizer and for comparison between ranks.
  template <class F>
  constexpr void visit_options(F&& f) const {
    f("learning_rate", learning_rate);
    f("lr_decay", lr_decay);
    f("weight_decay", weight_decay);
    f("initial_accumulator_value", initial_accumulator_value);
    f("eps", eps);
    f("maximize", maximize);
  }
  [[nodiscard]] std::string describe() const { return detail::options_text("adagrad", *this); }

  /// @throw invalid_argument naming the option that is not finite or negative.
  void validate() const {
    detail::require_not_negative("adagrad", "learning_rate", learning_rate);
    detail::require_not_negative("adagrad", "lr_decay", lr_decay);
    detail::require_not_negative("adagrad", "weight_decay", weight_decay);
    detail::require_not_negative("adagrad", "initial_accumulator_value", initial_accumulator_value);
    detail::require_not_negative("adagrad", "eps", eps);
  }

  /// Constants of the step that follows t released ones.
  [[nodiscard]] adagrad_step at(std::uint64_t t) const {
    return {learning_rate / (1 + static_cast<double>(t) * lr_decay), t == 0 ? initial_accumulator_value : 0.0, eps,
            weight_decay, maximize ? -1.0 : 1.0};
  }
};

static_assert(BaseOptimizer<adagrad, float> && BaseOptimizer<adagrad, double>);

} // namespace dpopt
