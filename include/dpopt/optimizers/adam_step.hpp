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
#include "dpopt/optimizers/option_check.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
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

/// Constants of one step; Slots is 2, or 3 with the running maximum of amsgrad. Arithmetic is done in T.
template <std::size_t Slots>
struct adam_step {
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

  /// x, g and each slot hold n elements. Any split of a parameter into tiles gives the same bits.
  template <class T>
  void update(T* x, const T* g, std::array<T*, Slots> slots, isize n) const {
    vectorized([=, this]() DPOPT_FORCE_INLINE_LAMBDA { loop(x, g, slots, n); });
  }

private:
  template <class T>
  DPOPT_FORCE_INLINE DPOPT_NO_CONTRACT void loop(T* x, const T* g, std::array<T*, Slots> slots, isize n) const {
    DPOPT_NO_CONTRACT_BLOCK
    T* const m = slots[0];
    T* const v = slots[1];
    const T size = static_cast<T>(step_size), root = static_cast<T>(root_correction), e = static_cast<T>(eps);
    const T w1 = static_cast<T>(lerp1), b2 = static_cast<T>(beta2), w2 = static_cast<T>(lerp2);
    const T l2 = static_cast<T>(decay), rest = static_cast<T>(shrink), s = static_cast<T>(sign);
    constexpr isize block = 256; // the roots of a block are drawn together
    T roots[block];
    for (isize first = 0; first < n; first += block) {
      const isize count = std::min(block, n - first);
      T* const xs = x + first;
      T* const ms = m + first;
      T* const vs = v + first;
      const T* const gs = g + first;
      for (isize i = 0; i < count; ++i) {
        const T d = s * gs[i] + l2 * xs[i];
        ms[i] += w1 * (d - ms[i]);
        vs[i] = b2 * vs[i] + w2 * d * d;
        if constexpr (Slots < 3) roots[i] = vs[i];
      }
      if constexpr (Slots == 3) {
        T* const most = slots[2] + first;
        for (isize i = 0; i < count; ++i) roots[i] = most[i] = std::max(most[i], vs[i]);
      }
      square_roots(roots, count);
      for (isize i = 0; i < count; ++i) xs[i] = rest * xs[i] - size * (ms[i] / (roots[i] / root + e));
    }
  }
};

} // namespace dpopt::detail
