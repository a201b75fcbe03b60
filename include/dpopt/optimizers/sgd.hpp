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

#include "dpopt/core/platform.hpp"
#include "dpopt/core/types.hpp"
#include "dpopt/core/vector_dispatch.hpp"
#include "dpopt/optimizers/base_optimizer.hpp"
#include "dpopt/optimizers/option_check.hpp"
#include "dpopt/optimizers/released_sum.hpp"

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>

namespace dpopt {

/// What one step of sgd does to one element, in T; the same on the CPU and in kernels.
template <class T>
struct sgd_element {
  T lr, decay, sign, keep, take;
  T look, direct; ///< the step is look x buffer + direct x gradient, with Nesterov and without

  DPOPT_FORCE_INLINE DPOPT_NO_CONTRACT DPOPT_DEVICE void plain(T& x, T g) const {
    DPOPT_NO_CONTRACT_BLOCK
    x -= lr * (sign * g + decay * x);
  }
  DPOPT_FORCE_INLINE DPOPT_NO_CONTRACT DPOPT_DEVICE void buffered(T& x, T g, T& buffer) const {
    DPOPT_NO_CONTRACT_BLOCK
    const T d = sign * g + decay * x;
    buffer = keep * buffer + take * d;
    x -= lr * (direct * d + look * buffer);
  }
};

/// Constants of one step of sgd. Arithmetic is done in T.
struct sgd_step {
  static constexpr bool takes_released_sum = true;

  double learning_rate;
  double weight_decay;
  double momentum;  ///< what reaches the parameter through Nesterov's look-ahead
  double keep;      ///< factor of the old buffer: 0 at the first step
  double take;      ///< factor of the gradient in the buffer: 1 at the first step, where dampening is not applied
  double sign;      ///< -1 when maximizing
  bool with_buffer; ///< false leaves the slot untouched
  bool nesterov;

  /// x, g and the slot hold n elements; g is a pointer or a released_sum. Any split of a parameter into tiles gives the
  /// same bits.
  template <class T, class G>
  void update(T* x, const G& g, std::array<T*, 1> slots, isize n) const {
    vectorized([=, this]() DPOPT_FORCE_INLINE_LAMBDA { loop(x, g, slots[0], n); });
  }

  /// The constants in T.
  template <class T>
  [[nodiscard]] DPOPT_FORCE_INLINE sgd_element<T> element() const {
    return {static_cast<T>(learning_rate), static_cast<T>(weight_decay), static_cast<T>(sign),
            static_cast<T>(keep),          static_cast<T>(take),         nesterov ? static_cast<T>(momentum) : T{1},
            nesterov ? T{1} : T{0}};
  }

private:
  template <class T, class G>
  DPOPT_FORCE_INLINE DPOPT_NO_CONTRACT void loop(T* x, const G& g, T* b, isize n) const {
    DPOPT_NO_CONTRACT_BLOCK
    const sgd_element<T> e = element<T>();
    T gradient;
    if (!with_buffer) {
      for (isize i = 0; i < n; ++i) {
        detail::read_gradient(g, i, gradient);
        e.plain(x[i], gradient);
      }
      return;
    }
    for (isize i = 0; i < n; ++i) {
      detail::read_gradient(g, i, gradient);
      e.buffered(x[i], gradient, b[i]);
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

  /// Without momentum there is no buffer.
  [[nodiscard]] constexpr bool uses_slot(std::size_t /*slot*/) const { return momentum != 0; }

  using options_of = sgd;
  /// The options, for describe() of the optimizer and for comparison between ranks.
  template <class F>
  constexpr void visit_options(F&& f) const {
    f("learning_rate", learning_rate);
    f("momentum", momentum);
    f("dampening", dampening);
    f("weight_decay", weight_decay);
    f("nesterov", nesterov);
    f("maximize", maximize);
  }
  [[nodiscard]] std::string describe() const { return detail::options_text("sgd", *this); }

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
