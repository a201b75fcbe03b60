// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// What the fused kernel does with a released gradient: one step of a base optimizer on one element, made of the core's
/// own formulas, so that a device and a CPU give the same bits.
///
/// For sgd, adam, adamw, amsgrad, rmsprop, adagrad and adam_bc, and for exponential_average around them. Without one:
/// scale_then_privatize (its divisors feed the clipper, not only the update) and whole-parameter optimizers, which read
/// the released gradient that fused_release wrote (no_update). rmsprop, adagrad and adam_bc leave contraction on the
/// CPU to its compiler: their bits agree where that does not fuse, as on any x86-64 without -march.
#pragma once

#include "dpopt/core/platform.hpp"
#include "dpopt/optimizers/adagrad.hpp"
#include "dpopt/optimizers/adam_bc.hpp"
#include "dpopt/optimizers/adam_step.hpp"
#include "dpopt/optimizers/exponential_average.hpp"
#include "dpopt/optimizers/rmsprop.hpp"
#include "dpopt/optimizers/sgd.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <type_traits>

namespace dpopt::cuda {

/// The state of one element; never of size 0, so that it can be passed on.
template <class T, std::size_t Slots>
using element_state = std::array<T, Slots == 0 ? 1 : Slots>;

/// A step as a value that crosses into kernels: updates x and its state from the released gradient g.
template <class U>
concept ElementUpdate =
    std::is_trivially_copyable_v<U> && requires(const U u, typename U::value_type& x, typename U::value_type g,
                                                element_state<typename U::value_type, U::slots>& state) {
      { U::slots } -> std::convertible_to<std::size_t>;
      { u.uses(std::size_t{}) } -> std::same_as<bool>; // false: the slot is neither read nor written in this step
      u(x, g, state);
    };

/// Release without an update: the gradient is written for someone else.
template <class T>
struct no_update {
  using value_type = T;
  static constexpr std::size_t slots = 0;

  [[nodiscard]] DPOPT_DEVICE constexpr bool uses(std::size_t) const { return false; }
  DPOPT_DEVICE constexpr void operator()(T&, T, element_state<T, 0>&) const {}
};

template <class T>
struct sgd_update {
  using value_type = T;
  static constexpr std::size_t slots = sgd::slots;
  sgd_element<T> element;
  bool with_buffer;

  [[nodiscard]] DPOPT_DEVICE constexpr bool uses(std::size_t) const { return with_buffer; }
  DPOPT_DEVICE void operator()(T& x, T g, element_state<T, slots>& state) const {
    if (with_buffer) element.buffered(x, g, state[0]);
    else element.plain(x, g);
  }
};

/// adam and adamw; amsgrad with the third slot.
template <class T, std::size_t Slots>
struct adam_update {
  using value_type = T;
  static constexpr std::size_t slots = Slots;
  dpopt::detail::adam_element<T> element;

  [[nodiscard]] DPOPT_DEVICE constexpr bool uses(std::size_t) const { return true; }
  DPOPT_DEVICE void operator()(T& x, T g, element_state<T, Slots>& state) const {
    element.moments(x, g, state[0], state[1]);
    T square = state[1];
    if constexpr (Slots == 3) square = state[2] = std::max(state[2], state[1]);
    element.move(x, state[0], std::sqrt(square));
  }
};

/// A step whose update() is one plain loop, here over one element.
template <class T, class Step, std::size_t Slots>
struct loop_update {
  using value_type = T;
  static constexpr std::size_t slots = Slots;
  Step step;
  std::array<bool, Slots> used;

  [[nodiscard]] DPOPT_DEVICE constexpr bool uses(std::size_t slot) const { return used[slot]; }
  DPOPT_DEVICE void operator()(T& x, T g, element_state<T, Slots>& state) const {
    std::array<T*, Slots> at{};
    for (std::size_t s = 0; s < Slots; ++s) at[s] = &state[s];
    step.update(&x, &g, at, 1);
  }
};

/// Base, and the average of the parameters in the last slot.
template <ElementUpdate Base>
struct averaged_update {
  using value_type = typename Base::value_type;
  static constexpr std::size_t slots = Base::slots + 1;
  Base base;
  value_type take;

  [[nodiscard]] DPOPT_DEVICE constexpr bool uses(std::size_t slot) const {
    return slot == Base::slots || base.uses(slot);
  }
  DPOPT_NO_CONTRACT DPOPT_DEVICE void operator()(value_type& x, value_type g,
                                                 element_state<value_type, slots>& state) const {
    DPOPT_NO_CONTRACT_BLOCK
    element_state<value_type, Base::slots> own{};
    for (std::size_t s = 0; s < Base::slots; ++s) own[s] = state[s];
    base(x, g, own);
    for (std::size_t s = 0; s < Base::slots; ++s) state[s] = own[s];
    state[Base::slots] += take * (x - state[Base::slots]);
  }
};

/// The update of a step in T, from what at(t) of the base optimizer gives.
template <class T>
[[nodiscard]] sgd_update<T> element_update(const sgd_step& step) {
  return {step.element<T>(), step.with_buffer};
}
template <class T, std::size_t Slots>
[[nodiscard]] adam_update<T, Slots> element_update(const dpopt::detail::adam_step<Slots>& step) {
  return {step.template element<T>()};
}
template <class T>
[[nodiscard]] loop_update<T, rmsprop_step, rmsprop::slots> element_update(const rmsprop_step& step) {
  return {step, {true, step.momentum > 0, step.centered}};
}
template <class T>
[[nodiscard]] loop_update<T, adagrad_step, adagrad::slots> element_update(const adagrad_step& step) {
  return {step, {true}};
}
template <class T>
[[nodiscard]] loop_update<T, adam_bc_step, adam_bc::slots> element_update(const adam_bc_step& step) {
  return {step, {true, true}};
}
template <class T, class Step, std::size_t Slots>
  requires requires(const Step& step) { element_update<T>(step); }
[[nodiscard]] auto element_update(const exponential_average_step<Step, Slots>& step) {
  const auto base = element_update<T>(step.base);
  return averaged_update<std::remove_const_t<decltype(base)>>{base, static_cast<T>(step.take)};
}

/// A base optimizer that the fused kernel can apply.
template <class B, class T>
concept DeviceOptimizer = ElementwiseOptimizer<B, T> && requires(const B b) { element_update<T>(b.at(0)); };

static_assert(ElementUpdate<no_update<float>> && ElementUpdate<sgd_update<float>>);
static_assert(ElementUpdate<adam_update<double, 2>> && ElementUpdate<adam_update<double, 3>>);
static_assert(DeviceOptimizer<sgd, float> && DeviceOptimizer<rmsprop, float> && DeviceOptimizer<adagrad, float>);
static_assert(DeviceOptimizer<adam_bc, float> && DeviceOptimizer<exponential_average<sgd>, float>);

} // namespace dpopt::cuda
