// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The ParameterView role: where one trainable tensor of the user's model lives. Nothing is copied or owned.
///
/// Satisfied by parameter_view<float>, parameter_view<double>, and any type with the same members: adapt a tensor of
/// your framework in three lines. Frozen tensors are simply not listed.
#pragma once

#include "dpopt/core/types.hpp"

#include <concepts>
#include <ranges>
#include <span>
#include <string_view>

namespace dpopt {

/// A name, the values that the step updates, and (optional, may be empty) where the released gradient is wanted.
template <class P>
concept ParameterView = std::floating_point<typename P::value_type> && requires(const P& p) {
  { p.name } -> std::convertible_to<std::string_view>;
  { p.value } -> std::convertible_to<std::span<typename P::value_type>>;
  { p.gradient } -> std::convertible_to<std::span<typename P::value_type>>;
};

/// The library's own view. `gradient` is written by pre_step() and step() with the *released* gradient (clipped,
/// summed, noisy, scaled: safe to look at); leave it empty when nobody reads it.
template <std::floating_point T>
struct parameter_view {
  using value_type = T;
  std::string_view name;
  std::span<T> value;
  std::span<T> gradient = {};
};

/// A list of views of one master type, in the order the model registers them (backward finishes the last first).
template <class R>
concept ParameterList = std::ranges::input_range<R> && ParameterView<std::ranges::range_value_t<R>>;

/// What policies may know of a parameter: never its values.
struct parameter_info {
  std::string_view name;
  isize size = 0;
};

static_assert(ParameterView<parameter_view<float>> && ParameterView<parameter_view<double>>);

} // namespace dpopt
