// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Stochastic gradient descent with momentum, dampening, Nesterov and L2 weight decay, as torch.optim.SGD.
///
/// With g = gradient + weight_decay x (the gradient negated first when maximizing):
///   without momentum  x -= lr g
///   with momentum     b = g at the first step, later b = momentum b + (1 - dampening) g;  x -= lr b
///   with nesterov     x -= lr (g + momentum b)
#pragma once

#include "dpopt/core/error.hpp"
#include "dpopt/core/platform.hpp"
#include "dpopt/core/types.hpp"
#include "dpopt/core/vector_dispatch.hpp"
#include "dpopt/optimizers/base_optimizer.hpp"
#include "dpopt/optimizers/option_check.hpp"

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>

namespace dpopt {

/// Constants of one step of sgd. Arithmetic is done in T.
struct sgd_step {
  double learning_rate;
  double weight_decay;
  double momentum;  ///< what reaches the parameter through Nesterov's look-ahead
  double keep;      ///< factor of the old buffer: 0 at the first step
  double take;      ///< factor of the gradient in the buffer: 1 at the first step, where dampening is not applied
  double sign;      ///< -1 when maximizing
  bool with_buffer; ///< false leaves the slot untouched
  bool nesterov;

  /// x, g and the slot hold n elements. Any split of a parameter into tiles gives the same bits.
  template <class T>
  void update(T* x, const T* g, std::array<T*, 1> slots, isize n) const {
    vectorized([=, this]() DPOPT_FORCE_INLINE_LAMBDA { loop(x, g, slots[0], n); });
  }

private:
  template <class T>
  DPOPT_FORCE_INLINE DPOPT_NO_CONTRACT void loop(T* x, const T* g, T* b, isize n) const {
    DPOPT_NO_CONTRACT_BLOCK
    const T lr = static_cast<T>(learning_rate);
    const T decay = static_cast<T>(weight_decay);
    const T s = static_cast<T>(sign);
    if (!with_buffer) {
      for (isize i = 0; i < n; ++i) x[i] -= lr * (s * g[i] + decay * x[i]);
      return;
    }
    const T old = static_cast<T>(keep);
    const T fresh = static_cast<T>(take);
    // One expression for both: the step is look x buffer + direct x gradient.
    const T look = nesterov ? static_cast<T>(momentum) : T{1};
    const T direct = nesterov ? T{1} : T{0};
    for (isize i = 0; i < n; ++i) {
      const T d = s * g[i] + decay * x[i];
      b[i] = old * b[i] + fresh * d;
      x[i] -= lr * (direct * d + look * b[i]);
    }
  }
};

/// Options of torch.optim.SGD with its defaults. The learning rate may be changed between steps.
struct sgd {
  using role = roles::base_optimizer;
  static constexpr std::size_t slots = 1; ///< momentum buffer

  double learning_rate = 1e-3;
  double momentum = 0;
  double dampening = 0;
  double weight_decay = 0;
  bool nesterov = false;
  bool maximize = false;

  /// The options, for describe() of the optimizer and for comparison between ranks.
  [[nodiscard]] std::string describe() const {
    return message("sgd(learning_rate=", learning_rate, ", momentum=", momentum, ", dampening=", dampening,
                   ", weight_decay=", weight_decay, ", nesterov=", nesterov, ", maximize=", maximize, ")");
  }

  /// @throw invalid_argument naming the option that is not finite, negative, or does not go with nesterov.
  void validate() const {
    detail::require_not_negative("sgd", "learning_rate", learning_rate);
    detail::require_not_negative("sgd", "momentum", momentum);
    detail::require_not_negative("sgd", "weight_decay", weight_decay);
    detail::require_option(std::isfinite(dampening), "sgd", "dampening", dampening, "a finite number");
    detail::require_option(!nesterov || momentum > 0, "sgd", "momentum", momentum, "more than 0 with nesterov");
    detail::require_option(!nesterov || dampening == 0, "sgd", "dampening", dampening, "0 with nesterov");
  }

  /// Constants of the step that follows t released ones.
  [[nodiscard]] sgd_step at(std::uint64_t t) const {
    return {.learning_rate = learning_rate,
            .weight_decay = weight_decay,
            .momentum = momentum,
            .keep = t == 0 ? 0.0 : momentum,
            .take = t == 0 ? 1.0 : 1 - dampening,
            .sign = maximize ? -1.0 : 1.0,
            .with_buffer = momentum != 0,
            .nesterov = nesterov};
  }
};

static_assert(BaseOptimizer<sgd, float> && BaseOptimizer<sgd, double>);

} // namespace dpopt
