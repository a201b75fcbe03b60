// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The one short message of doubles a step: did a rank fail, and did all ranks declare the same step?
#pragma once

#include "dpopt/core/types.hpp"
#include "dpopt/parameters/fingerprint.hpp"

#include <array>
#include <cstdint>

namespace dpopt {

/// What must be alike on all ranks at a release; all of it is public.
struct step_declaration {
  std::uint64_t step = 0;
  isize iterations = 0;
  double sampling_rate = 1;
  double noise_multiplier = 0;
  double sensitivity = 0;

  /// 20 bits, so that squares and their sums over 8192 ranks are exact in double. A difference goes unseen once in a
  /// million steps: this guards against programming errors, not against an adversary.
  [[nodiscard]] double digest() const {
    fingerprint f;
    f.add(step).add(iterations).add(sampling_rate).add(noise_multiplier).add(sensitivity);
    return static_cast<double>(f.value() >> 44);
  }
};

/// Fixed length on every rank, summed over ranks in place.
struct control_message {
  std::array<double, 3> numbers{};

  control_message(bool failed, double digest) : numbers{failed ? 1.0 : 0.0, digest, digest * digest} {}

  /// After the sum: whether any rank failed.
  [[nodiscard]] bool any_failed() const noexcept { return numbers[0] > 0; }
  /// After the sum: W sum(d^2) = (sum d)^2 holds exactly if all d are equal (Cauchy-Schwarz).
  [[nodiscard]] bool all_alike(int ranks) const noexcept { return numbers[2] * ranks == numbers[1] * numbers[1]; }
};

} // namespace dpopt
