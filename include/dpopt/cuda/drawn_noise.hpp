// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Who draws the noise of a step on a device.
#pragma once

#include "dpopt/core/schedules.hpp"
#include "dpopt/noise/counter_gaussian.hpp"
#include "dpopt/noise/noise_mechanism.hpp"

#include <concepts>
#include <cstdint>

namespace dpopt::cuda {

/// Noise that the fused kernel draws itself: counter_gaussian, also where a schedule moves its multiplier.
template <class N>
concept DrawnOnDevice = std::same_as<N, counter_gaussian> || requires(const N n) {
  { n.inner } -> std::convertible_to<const counter_gaussian&>;
  requires FollowsSteps<N>;
};

/// Noise that the host draws into page-locked memory and the device adds: exact integers on an integer sum.
template <class N, class V>
concept DrawnOnHost = DiscreteNoise<N> && std::same_as<V, std::int64_t>;

} // namespace dpopt::cuda
