// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Where one trainable tensor lives on the device.
#pragma once

#include "dpopt/core/types.hpp"
#include "dpopt/parameters/parameter_view.hpp"

#include <concepts>
#include <ranges>
#include <span>
#include <string_view>

namespace dpopt::cuda {

/// The core's ParameterView whose spans are over DEVICE memory: nothing on the host may look through them.
template <std::floating_point T>
struct parameter_view {
  using value_type = T;
  static constexpr bool on_device = true;

  std::string_view name;
  std::span<T> value;
  std::span<T> gradient = {};

  parameter_view() = default;
  /// @param values_on_device `size` numbers, which steps update.
  /// @param gradient_on_device where the released gradient is wanted, as long; or null.
  parameter_view(std::string_view called, T* values_on_device, isize size, T* gradient_on_device = nullptr)
      : name(called), value(values_on_device, static_cast<std::size_t>(size)),
        gradient(gradient_on_device, gradient_on_device ? static_cast<std::size_t>(size) : 0) {}
};

/// A list of views of device memory; views of host memory are refused when compiling.
template <class R>
concept DeviceParameterList = ParameterList<R> && std::ranges::range_value_t<R>::on_device;

static_assert(ParameterView<parameter_view<float>> && ParameterView<parameter_view<double>>);

} // namespace dpopt::cuda
