// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The BaseOptimizer role: what is done with the released (noisy, scaled) gradient.
///
/// Two kinds. *Elementwise* (sgd, adam, adamw, amsgrad, adam_bc, rmsprop, adagrad; decorated by exponential_average or
/// scale_then_privatize): constants once a step, then a pure function on tiles, which step() fuses with noise and
/// scaling. *Whole-parameter* (a lambda, LARS, LAMB): called once a parameter with its released gradient. Whatever it
/// does is post-processing and costs no privacy.
#pragma once

#include "dpopt/core/types.hpp"

#include <array>
#include <concepts>
#include <cstdint>
#include <span>
#include <string_view>
#include <type_traits>

namespace dpopt {

/// A value type with `slots` state arrays a parameter (zero at the start) and
/// `at(t).update(x, g, slots, n)`, where t counts released steps from 0.
template <class B, class T>
concept ElementwiseOptimizer =
    std::copyable<B> && requires(const B b, std::uint64_t t, T* x, const T* g, std::array<T*, B::slots> s, isize n) {
      { B::slots } -> std::convertible_to<std::size_t>;
      b.validate(); // throws invalid_argument naming the option
      b.at(t).update(x, g, s, n);
      requires std::is_trivially_copyable_v<decltype(b.at(t))>; // crosses into kernels by value
    };

/// Whether an elementwise optimizer reads or writes a slot with the options that it has now. It says so in a member
/// uses_slot(s); without one it uses all. What is not in use is not allocated: update() gets a null pointer there.
template <class B>
[[nodiscard]] constexpr bool slot_in_use(const B& base, std::size_t slot) {
  if constexpr (requires { base.uses_slot(slot); }) return base.uses_slot(slot);
  else if constexpr (requires { B::slots; }) return slot < B::slots;
  else return false; // a whole-parameter optimizer has none
}

/// Optional, of either kind: visit_options(f) calls f(name, value) for each option, a number or truth value, so that
/// ranks can compare them in each step without words, which would need memory. A type derived from such a one has
/// options of its own, of which the inherited call does not know: options_of must name the type itself.
template <class B>
concept ShowsOptions = std::same_as<typename B::options_of, B> &&
                       requires(const B b) { b.visit_options([](std::string_view, const auto&) {}); };

/// An elementwise optimizer that wants to know the standard deviation of the noise on each number of this step's
/// gradient, which is public. Where it has this at(), step() calls it instead of the other.
template <class B, class T>
concept NoiseAwareOptimizer =
    ElementwiseOptimizer<B, T> && requires(const B b, std::uint64_t t, double noise_std) { b.at(t, noise_std); };

/// One parameter as a whole-parameter optimizer sees it.
template <class T>
struct parameter_update {
  std::uint64_t step;          ///< released steps before this one
  isize parameter;             ///< position in the list given to dp_optimizer
  std::string_view name;       ///< the parameter's name
  std::span<T> value;          ///< updated in place
  std::span<const T> gradient; ///< released gradient: noisy and scaled
};

/// Anything callable with parameter_update<T>: a lambda or a struct of five lines will do.
template <class B, class T>
concept WholeParameterOptimizer = std::invocable<B&, parameter_update<T>>;

/// Either kind.
template <class B, class T>
concept BaseOptimizer = ElementwiseOptimizer<B, T> || WholeParameterOptimizer<B, T>;

} // namespace dpopt
