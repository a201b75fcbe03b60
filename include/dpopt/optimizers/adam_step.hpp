// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// What adam, adamw and amsgrad share: the constants of one step and the loop.
///
/// With g = gradient + weight_decay x (or, decoupled, x *= 1 - lr weight_decay beforehand), t = 1, 2, ...:
///   m = beta1 m + (1 - beta1) g,  v = beta2 v + (1 - beta2) g^2,  w = v, or with amsgrad w = max(w, v)
///   x -= lr / (1 - beta1^t) m / (sqrt(w) / sqrt(1 - beta2^t) + eps)
/// which is torch's order: eps is outside the root, and the maximum is taken before the bias correction.
#pragma once

#include "dpopt/core/platform.hpp"
#include "dpopt/core/types.hpp"
#include "dpopt/core/vector_dispatch.hpp"
#include "dpopt/core/vector_operations.hpp"
#include "dpopt/optimizers/option_check.hpp"
#include "dpopt/optimizers/released_sum.hpp"

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <string_view>

namespace dpopt::detail {

/// Options with the same meaning in all three, for one place that checks and converts them.
struct adam_options {
  double learning_rate;
  double beta1;
  double beta2;
  double eps;
  double weight_decay;
  bool decoupled; ///< weight decay shrinks the parameter and does not pass through the moments
  bool maximize;

  /// @throw invalid_argument naming the option.
  void validate(std::string_view name) const {
    require_not_negative(name, "learning_rate", learning_rate);
    require_decay_rate(name, "beta1", beta1);
    require_decay_rate(name, "beta2", beta2);
    require_not_negative(name, "eps", eps);
    require_not_negative(name, "weight_decay", weight_decay);
  }
};

/// visit_options() of the three: each option that the optimizer has under its name.
template <class Optimizer, class F>
constexpr void visit_adam_options(const Optimizer& optimizer, F&& f) {
  f("learning_rate", optimizer.learning_rate);
  f("beta1", optimizer.beta1);
  f("beta2", optimizer.beta2);
  f("eps", optimizer.eps);
  f("weight_decay", optimizer.weight_decay);
  if constexpr (requires { optimizer.decoupled; }) f("decoupled", optimizer.decoupled);
  f("maximize", optimizer.maximize);
}

/// What one step does to one element, in T, in two parts with the root between them: moments() makes what the root is
/// drawn of. The same on the CPU and in kernels. W is T, or a vector of them.
template <class T>
struct adam_element {
  T size, root_correction, eps, lerp1, beta2, lerp2, decay, shrink, sign;

  template <class W>
  DPOPT_FORCE_INLINE DPOPT_NO_CONTRACT DPOPT_DEVICE void moments(const W& x, const W& g, W& m, W& v) const {
    DPOPT_NO_CONTRACT_BLOCK
    const W d = sign * g + decay * x;
    m += lerp1 * (d - m);
    v = beta2 * v + lerp2 * d * d;
  }
  template <class W>
  DPOPT_FORCE_INLINE DPOPT_NO_CONTRACT DPOPT_DEVICE void move(W& x, const W& m, const W& root) const {
    DPOPT_NO_CONTRACT_BLOCK
    x = shrink * x - size * (m / (root / root_correction + eps));
  }
};

/// Constants of one step; Slots is 2, or 3 with the running maximum of amsgrad. Arithmetic is done in T.
template <std::size_t Slots>
struct adam_step {
  static constexpr bool takes_released_sum = true;

  double step_size;       ///< learning rate over the first bias correction
  double root_correction; ///< square root of the second bias correction
  double beta2;
  double lerp1; ///< 1 - beta1
  double lerp2; ///< 1 - beta2
  double eps;
  double decay;  ///< L2 term: added to the gradient
  double shrink; ///< decoupled term: factor of the parameter
  double sign;   ///< -1 when maximizing

  adam_step(const adam_options& o, std::uint64_t t)
      : beta2(o.beta2), lerp1(1 - o.beta1), lerp2(1 - o.beta2), eps(o.eps), decay(o.decoupled ? 0 : o.weight_decay),
        shrink(o.decoupled ? 1 - o.learning_rate * o.weight_decay : 1), sign(o.maximize ? -1 : 1) {
    const double steps = static_cast<double>(t) + 1;
    step_size = o.learning_rate / (1 - std::pow(o.beta1, steps));
    root_correction = std::sqrt(1 - std::pow(o.beta2, steps));
  }

  /// x, g and each slot hold n elements; g is a pointer or a released_sum. Any split of a parameter into tiles gives
  /// the same bits.
  template <class T, class G>
  void update(T* x, const G& g, std::array<T*, Slots> slots, isize n) const {
    vectorized([=, this](auto width) DPOPT_FORCE_INLINE_LAMBDA { this->loop(width, x, g, slots, n); });
  }

  /// The constants in T.
  template <class T>
  [[nodiscard]] DPOPT_FORCE_INLINE adam_element<T> element() const {
    return {static_cast<T>(step_size), static_cast<T>(root_correction), static_cast<T>(eps),
            static_cast<T>(lerp1),     static_cast<T>(beta2),           static_cast<T>(lerp2),
            static_cast<T>(decay),     static_cast<T>(shrink),          static_cast<T>(sign)};
  }

private:
  template <std::size_t Bytes, class T, class G>
  DPOPT_FORCE_INLINE DPOPT_NO_CONTRACT void loop(vector_bytes<Bytes> width, T* x, const G& g,
                                                 std::array<T*, Slots> slots, isize n) const {
    DPOPT_NO_CONTRACT_BLOCK
    const adam_element<T> e = element<T>();
    isize i = 0;
    if constexpr (has_wide_words) {
      constexpr isize lanes = Bytes / sizeof(T);
      for (; i + lanes <= n; i += lanes) part<wide<T, Bytes>>(width, e, x + i, g, slots, i);
    }
    for (; i < n; ++i) part<T>(width, e, x + i, g, slots, i);
  }

  /// One W at x, and at i of g and of slots[k]. All of it stays in registers: in loops of their own, with the roots in
  /// memory between them, the halves of a step take a quarter longer.
  template <class W, std::size_t Bytes, class T, class G>
  DPOPT_FORCE_INLINE DPOPT_NO_CONTRACT static void part(vector_bytes<Bytes> width, const adam_element<T>& e, T* x,
                                                        const G& g, const std::array<T*, Slots>& slots, isize i) {
    DPOPT_NO_CONTRACT_BLOCK
    W value, gradient, mean, square, root;
    std::memcpy(&value, x, sizeof(W));
    read_gradient(g, i, gradient);
    std::memcpy(&mean, slots[0] + i, sizeof(W));
    std::memcpy(&square, slots[1] + i, sizeof(W));
    e.moments(value, gradient, mean, square);
    std::memcpy(slots[0] + i, &mean, sizeof(W));
    std::memcpy(slots[1] + i, &square, sizeof(W));
    if constexpr (Slots == 3) {
      W most;
      std::memcpy(&most, slots[2] + i, sizeof(W));
      square = most < square ? square : most;
      std::memcpy(slots[2] + i, &square, sizeof(W));
    }
    T roots[sizeof(W) / sizeof(T)];
    std::memcpy(roots, &square, sizeof(W));
    square_roots(roots, sizeof(W) / sizeof(T), width);
    std::memcpy(&root, roots, sizeof(W));
    e.move(value, mean, root);
    std::memcpy(x, &value, sizeof(W));
  }
};

} // namespace dpopt::detail
