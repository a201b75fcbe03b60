// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The other half of the source `preconditioned`: multiplies the released gradient back, hands it to a base optimizer,
/// and keeps the preconditioner for the next step. Scale-then-privatize (Ganesh et al. 2025, arXiv 2507.01129), with
/// the delayed preconditioner of Li et al. 2022 (arXiv 2212.00309, alg. 1) when delay > 1.
///
/// With d the divisors of this step's sources (1 at first), h the released gradient of the divided samples:
///   g = d h;  Base makes its step with g;  window += g
///   every `delay` steps:  v = average of (window / delay)^2 with weights beta^age;  d = sqrt(v) + eps;  window = 0
#pragma once

#include "dpopt/core/error.hpp"
#include "dpopt/core/types.hpp"
#include "dpopt/optimizers/adam.hpp"
#include "dpopt/optimizers/base_optimizer.hpp"
#include "dpopt/optimizers/option_check.hpp"
#include "dpopt/optimizers/sgd.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <type_traits>

namespace dpopt {

/// Constants of one step of scale_then_privatize. Arithmetic is done in T.
template <class Step, std::size_t BaseSlots>
struct scale_then_privatize_step {
  Step base;
  double per_delay; ///< 1 / delay
  double take;      ///< weight of the new square in the average; 0 between refreshes
  double eps;

  /// x, g and each slot hold n elements. Any split of a parameter into tiles gives the same bits.
  template <class T>
  void update(T* x, const T* g, std::array<T*, BaseSlots + 3> slots, isize n) const {
    constexpr isize tile = 256;
    std::array<T, tile> back; // the gradient of the undivided samples
    for (isize first = 0; first < n; first += tile) {
      const isize count = std::min(tile, n - first);
      T* const d = slots[BaseSlots] + first;
      for (isize i = 0; i < count; ++i)
        back[static_cast<std::size_t>(i)] = d[i] == T(0) ? g[first + i] : g[first + i] * d[i];
      std::array<T*, BaseSlots> own{};
      for (std::size_t s = 0; s < BaseSlots; ++s)
        if (slots[s] != nullptr) own[s] = slots[s] + first;
      base.update(x + first, back.data(), own, count);
      learn(back.data(), d, slots[BaseSlots + 1] + first, slots[BaseSlots + 2] + first, count);
    }
  }

private:
  template <class T>
  void learn(const T* g, T* d, T* mean_square, T* window, isize count) const {
    const T share = static_cast<T>(per_delay), weight = static_cast<T>(take), least = static_cast<T>(eps);
    for (isize i = 0; i < count; ++i) {
      const T mean = window[i] + share * g[i];
      if (take == 0) {
        window[i] = mean;
        continue;
      }
      mean_square[i] += weight * (mean * mean - mean_square[i]);
      d[i] = std::sqrt(mean_square[i]) + least;
      window[i] = T(0);
    }
  }
};

/// Decorates Base. The sources of each step divide by the slot this keeps:
/// @code
/// using stp = scale_then_privatize<adam>;
/// opt.gradient_ready(p, preconditioned(source, opt.optimizer_slot(p, stp::divisor_slot)));
/// @endcode
/// The clipper's bound is on DIVIDED gradients, whose norm grows with the number of elements; noise_std() and
/// released_gradient() are those of divided gradients too. Post-processing: costs no privacy. Base is not told the
/// noise, which differs by element here. With pre_step() and an optimizer of the trainer's own nothing is learned.
template <class Base>
  requires ElementwiseOptimizer<Base, float> && ElementwiseOptimizer<Base, double>
struct scale_then_privatize {
  static_assert(!NoiseAwareOptimizer<Base, double>,
                "dpopt: scale_then_privatize multiplies the noise by another factor for each element, which this base "
                "optimizer cannot be told; use adam or adamw.");
  using role = roles::base_optimizer;
  static constexpr std::size_t divisor_slot = Base::slots; ///< for `preconditioned`; 0 stands for 1
  static constexpr std::size_t slots = Base::slots + 3;    ///< divisors, mean square, window

  Base base = {};
  double beta = 0.999;     ///< decay rate of the mean square, a refresh
  double eps = 1e-8;       ///< least divisor, in gradients
  std::uint64_t delay = 1; ///< steps between refreshes, which are averaged before they are squared

  [[nodiscard]] constexpr bool uses_slot(std::size_t slot) const {
    return slot >= divisor_slot || slot_in_use(base, slot);
  }

  using options_of = std::conditional_t<ShowsOptions<Base>, scale_then_privatize, void>;
  /// The options, for describe() of the optimizer and for comparison between ranks.
  template <class F>
  constexpr void visit_options(F&& f) const {
    base.visit_options(f);
    f("beta", beta);
    f("eps", eps);
    f("delay", delay);
  }
  [[nodiscard]] std::string describe() const {
    std::string of_base;
    if constexpr (requires { base.describe(); }) of_base = base.describe();
    return message("scale_then_privatize(", of_base, ", beta=", beta, ", eps=", eps, ", delay=", delay, ")");
  }

  /// @throw invalid_argument naming the option.
  void validate() const {
    base.validate();
    detail::require_decay_rate("scale_then_privatize", "beta", beta);
    detail::require_option(std::isfinite(eps) && eps >= 1e-30, "scale_then_privatize", "eps", eps,
                           "a finite number of at least 1e-30");
    detail::require_option(delay >= 1, "scale_then_privatize", "delay", static_cast<double>(delay), "1 or more");
  }

  /// Constants of the step that follows t released ones.
  [[nodiscard]] auto at(std::uint64_t t) const {
    const std::uint64_t refreshes = (t + 1) / delay;
    double take = 0;
    if ((t + 1) % delay == 0) // as in exponential_average: needs no correction at its start
      take = (1 - beta) / -std::expm1(std::log(beta) * static_cast<double>(refreshes));
    return scale_then_privatize_step<decltype(base.at(t)), Base::slots>{base.at(t), 1 / static_cast<double>(delay),
                                                                        take, eps};
  }
};

static_assert(BaseOptimizer<scale_then_privatize<sgd>, float> && BaseOptimizer<scale_then_privatize<adam>, double>);

} // namespace dpopt
