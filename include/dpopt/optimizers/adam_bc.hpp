// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Adam whose mean square is freed from the noise (DP-AdamBC; Tang, Shpilevskiy and Lécuyer 2023, arXiv 2312.14334,
/// alg. 1). The noise's variance is known and public; without the correction it swamps the gradients' and Adam becomes
/// SGD with momentum.
///
/// With g = gradient + weight_decay x, s_t the noise's standard deviation on each number of g, t = 1, 2, ...:
///   m = beta1 m + (1 - beta1) g,  v = beta2 v + (1 - beta2) (g^2 - s_t^2)
///   x -= lr / (1 - beta1^t) m / sqrt(max(v / (1 - beta2^t), floor))
/// With one s for all steps this is the paper's: subtracting s^2 from the corrected average of g^2 is the same as from
/// each g^2. It stays right where a schedule changes the noise.
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

/// Constants of one step of adam_bc. Arithmetic is done in T.
struct adam_bc_step {
  double step_size;  ///< learning rate over the first bias correction
  double correction; ///< second bias correction
  double beta2;
  double lerp1; ///< 1 - beta1
  double lerp2; ///< 1 - beta2
  double noise_variance;
  double floor;
  double weight_decay;
  double sign; ///< -1 when maximizing

  /// x, g and each slot hold n elements. Any split of a parameter into tiles gives the same bits.
  template <class T>
  DPOPT_DEVICE void update(T* x, const T* g, std::array<T*, 2> slots, isize n) const {
    T* const m = slots[0];
    T* const v = slots[1];
    const T size = static_cast<T>(step_size), whole = static_cast<T>(correction), least = static_cast<T>(floor);
    const T w1 = static_cast<T>(lerp1), b2 = static_cast<T>(beta2), w2 = static_cast<T>(lerp2);
    const T l2 = static_cast<T>(weight_decay), s = static_cast<T>(sign), noise = static_cast<T>(noise_variance);
    for (isize i = 0; i < n; ++i) {
      const T d = s * g[i] + l2 * x[i];
      m[i] += w1 * (d - m[i]);
      v[i] = b2 * v[i] + w2 * (d * d - noise);
      x[i] -= size * (m[i] / std::sqrt(std::max(v[i] / whole, least)));
    }
  }
};

/// Adam's options, and a floor in place of eps. The learning rate may be changed between steps.
struct adam_bc {
  using role = roles::base_optimizer;
  static constexpr std::size_t slots = 2; ///< mean of the gradient, and mean square less the noise's variance

  double learning_rate = 1e-3;
  double beta1 = 0.9;   ///< decay rate of the mean
  double beta2 = 0.999; ///< decay rate of the mean square
  /// Least mean square, in squared gradients: no step is longer than lr |m| / sqrt(floor). Worth a search.
  double floor = 5e-8;
  double weight_decay = 0; ///< L2: added to the gradient
  bool maximize = false;

  using options_of = adam_bc;
  /// The options, for describe() of the optimizer and for comparison between ranks.
  template <class F>
  constexpr void visit_options(F&& f) const {
    f("learning_rate", learning_rate);
    f("beta1", beta1);
    f("beta2", beta2);
    f("floor", floor);
    f("weight_decay", weight_decay);
    f("maximize", maximize);
  }
  [[nodiscard]] std::string describe() const { return detail::options_text("adam_bc", *this); }

  /// @throw invalid_argument naming the option that is not finite, negative, a rate outside [0, 1), or a floor of 0.
  void validate() const {
    detail::require_not_negative("adam_bc", "learning_rate", learning_rate);
    detail::require_decay_rate("adam_bc", "beta1", beta1);
    detail::require_decay_rate("adam_bc", "beta2", beta2);
    detail::require_option(std::isfinite(floor) && floor >= 1e-30, "adam_bc", "floor", floor, // a positive float too
                           "a finite number of at least 1e-30");
    detail::require_not_negative("adam_bc", "weight_decay", weight_decay);
  }

  /// Constants of the step that follows t released ones, with noise of this standard deviation on each number.
  [[nodiscard]] adam_bc_step at(std::uint64_t t, double noise_std) const {
    const double steps = static_cast<double>(t) + 1;
    return {.step_size = learning_rate / (1 - std::pow(beta1, steps)),
            .correction = 1 - std::pow(beta2, steps),
            .beta2 = beta2,
            .lerp1 = 1 - beta1,
            .lerp2 = 1 - beta2,
            .noise_variance = noise_std * noise_std,
            .floor = floor,
            .weight_decay = weight_decay,
            .sign = maximize ? -1.0 : 1.0};
  }
  /// The same without noise.
  [[nodiscard]] adam_bc_step at(std::uint64_t t) const { return at(t, 0); }
};

static_assert(NoiseAwareOptimizer<adam_bc, float> && NoiseAwareOptimizer<adam_bc, double>);

} // namespace dpopt
