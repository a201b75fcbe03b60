// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// How much noise a step needs, and whether the policies can give it. The standard deviation on the sum is the
/// gradients' part of the noise multiplier times the clipper's sensitivity, fixed when the step begins.
#pragma once

#include "dpopt/clipping/clipper.hpp"
#include "dpopt/core/error.hpp"
#include "dpopt/core/schedules.hpp"
#include "dpopt/core/types.hpp"
#include "dpopt/noise/multiplier.hpp"
#include "dpopt/noise/noise_mechanism.hpp"

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <type_traits>

namespace dpopt::detail {

/// Tells policies with a schedule how many steps were released.
template <class N, class C>
void start_schedules(N& noise, C& clipper, std::uint64_t releases) {
  if constexpr (FollowsSteps<N>) noise.start_step(releases);
  if constexpr (FollowsSteps<C>) clipper.start_step(releases);
}

/// The noise multiplier's bound over all steps.
template <class N>
[[nodiscard]] double greatest_multiplier(const N& noise) {
  if constexpr (requires { noise.greatest_multiplier(); }) return noise.greatest_multiplier();
  else return noise.multiplier();
}

/// What the gradients get of the noise multiplier that the accountant is told.
template <class N, class C>
[[nodiscard]] double gradient_multiplier(const N& noise, const C& clipper) {
  if constexpr (LearningClipper<C>) return clipper.gradient_multiplier(noise.multiplier());
  else return noise.multiplier();
}

/// Refuses a clipper that would leave nothing of the multiplier in some step.
/// @throw invalid_argument.
template <class N, class C>
void require_gradient_multiplier(const N& noise, const C& clipper) {
  if constexpr (LearningClipper<C>) static_cast<void>(clipper.gradient_multiplier(greatest_multiplier(noise)));
}

/// `std` is the standard deviation on a sum of type Sum whose unit is `unit`.
/// @throw invalid_argument when the clipper's bounds and the multiplier, which may change between steps, give no usable
///   standard deviation.
template <class Sum, class N>
void require_usable_noise(const N& noise, double multiplier, double sensitivity, double std, double unit) {
  require_multiplier(multiplier);
  if (!(std::isfinite(sensitivity) && sensitivity > 0))
    throw invalid_argument(message("sensitivity: the clipper's bounds add up to ", sensitivity,
                                   "; give bounds whose squares neither vanish nor overflow"));
  using added_to = std::conditional_t<std::floating_point<Sum>, Sum, double>;
  constexpr double reach = 16; // no number is beyond 9.5 standard deviations; the sum needs room, too
  if (multiplier > 0 &&
      !(std::isnormal(static_cast<added_to>(std / unit)) && std::isnormal(static_cast<added_to>(reach * (std / unit)))))
    throw invalid_argument(message("noise_multiplier ", multiplier, " times sensitivity ", sensitivity,
                                   " is a standard deviation that the accumulator's type cannot hold; use other "
                                   "bounds or double"));
  if constexpr (requires { noise.require_std(sensitivity); })
    if (std > 0) noise.require_std(std / unit);
}

/// Where the noise of element `element` of parameter p stands in the stream.
[[nodiscard]] inline address gradient_address(std::uint64_t step, isize p, isize element, std::uint32_t lane) noexcept {
  return {purpose::gradient, lane, step, static_cast<std::uint32_t>(p), static_cast<std::uint64_t>(element)};
}

/// Draws the last number that the step's gradients will need from an addressable stream and throws it away, so that an
/// exhausted stream is an error before the first parameter is written.
template <class Sum, class N, class Parameters>
void probe_stream(N& noise, const Parameters& parameters, std::uint64_t step) {
  isize largest = 0;
  for (const auto& p : parameters) largest = std::max(largest, p.size());
  if (largest == 0) return;
  std::conditional_t<NoiseMechanism<N, double>, double, Sum> number{};
  noise.add({purpose::gradient, 0, step, static_cast<std::uint32_t>(parameters.count() - 1),
             static_cast<std::uint64_t>(largest - 1)},
            1.0, &number, 1);
}

} // namespace dpopt::detail
