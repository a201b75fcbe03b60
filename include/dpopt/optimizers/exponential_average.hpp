// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Keeps an exponential moving average of the PARAMETERS beside any elementwise optimizer: noise of single steps
/// averages out, and evaluating the average costs no privacy (De et al. 2022, arXiv 2204.13650,
/// "parameter averaging").
///
/// With x_t the parameters after step t = 1, 2, ...:  average_t = sum_i decay^(t - i) x_i / sum_i decay^(t - i),
/// which the first step makes x_1 and which needs no correction at its start: the initial values have no weight in it.
#pragma once

#include "dpopt/core/error.hpp"
#include "dpopt/core/types.hpp"
#include "dpopt/optimizers/adam.hpp"
#include "dpopt/optimizers/base_optimizer.hpp"
#include "dpopt/optimizers/option_check.hpp"
#include "dpopt/optimizers/sgd.hpp"

#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <string>
#include <type_traits>

namespace dpopt {

/// Constants of one step of exponential_average. Arithmetic is done in T.
template <class Step, std::size_t BaseSlots>
struct exponential_average_step {
  Step base;
  double take; ///< weight of the new parameters in the average: 1 at the first step

  /// x, g and each slot hold n elements; the last slot is the average.
  template <class T>
  void update(T* x, const T* g, std::array<T*, BaseSlots + 1> slots, isize n) const {
    std::array<T*, BaseSlots> own{};
    for (std::size_t s = 0; s < BaseSlots; ++s) own[s] = slots[s];
    base.update(x, g, own, n);
    T* const average = slots[BaseSlots];
    const T weight = static_cast<T>(take);
    for (isize i = 0; i < n; ++i) average[i] += weight * (x[i] - average[i]);
  }
};

/// Decorates Base. Read the average after a step, whole and ready to use:
/// @code
/// using averaged = exponential_average<adam>;
/// dp_optimizer opt(parameters, dp_options{}, flat{1.0}, averaged{.base = adam{.learning_rate = 0.01}, .decay = 0.99});
/// ...
/// std::span<const float> weights = opt.optimizer_slot(0, averaged::average_slot); // of parameter 0
/// @endcode
/// Zeros before the first step. Training goes on with the parameters, not with their average.
template <class Base>
  requires ElementwiseOptimizer<Base, float> && ElementwiseOptimizer<Base, double>
struct exponential_average {
  using role = roles::base_optimizer;
  static constexpr std::size_t average_slot = Base::slots;
  static constexpr std::size_t slots = Base::slots + 1;

  Base base = {};
  double decay = 0.999; ///< weight of a parameter one step ago; the average reaches back about 1 / (1 - decay) steps

  [[nodiscard]] constexpr bool uses_slot(std::size_t slot) const {
    return slot == average_slot || slot_in_use(base, slot);
  }

  using options_of = std::conditional_t<ShowsOptions<Base>, exponential_average, void>;
  /// The options, for describe() of the optimizer and for comparison between ranks.
  template <class F>
  constexpr void visit_options(F&& f) const {
    base.visit_options(f);
    f("decay", decay);
  }
  [[nodiscard]] std::string describe() const {
    std::string of_base;
    if constexpr (requires { base.describe(); }) of_base = base.describe();
    return message("exponential_average(", of_base, ", decay=", decay, ")");
  }

  /// @throw invalid_argument naming the option.
  void validate() const {
    base.validate();
    detail::require_decay_rate("exponential_average", "decay", decay);
  }

  /// Constants of the step that follows t released ones.
  [[nodiscard]] auto at(std::uint64_t t) const {
    return exponential_average_step<decltype(base.at(t)), Base::slots>{base.at(t), take(t)};
  }
  /// The same for a base that wants to know the noise.
  [[nodiscard]] auto at(std::uint64_t t, double noise_std) const
    requires NoiseAwareOptimizer<Base, double>
  {
    return exponential_average_step<decltype(base.at(t, noise_std)), Base::slots>{base.at(t, noise_std), take(t)};
  }

private:
  /// (1 - decay) / (1 - decay^(t + 1)), also where decay is close to 1.
  [[nodiscard]] double take(std::uint64_t t) const {
    return (1 - decay) / -std::expm1(std::log(decay) * (static_cast<double>(t) + 1));
  }
};
template <class B>
exponential_average(B, double) -> exponential_average<B>;

static_assert(BaseOptimizer<exponential_average<sgd>, float> && BaseOptimizer<exponential_average<adam>, double>);

} // namespace dpopt
