// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The one short message of doubles a step: did a rank fail, and did all ranks declare the same step?
#pragma once

#include "dpopt/core/types.hpp"
#include "dpopt/parameters/fingerprint.hpp"

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

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

/// Three numbers of our own and the clipper's side scalars; as long on every rank, summed over ranks in place.
class control_message {
public:
  explicit control_message(isize side_scalars = 0) : numbers_(static_cast<std::size_t>(own + side_scalars), 0.0) {}

  /// Sets this rank's status; the side scalars are the clipper's, written through side().
  void declare(bool failed, double digest) noexcept {
    numbers_[0] = failed ? 1.0 : 0.0;
    numbers_[1] = digest;
    numbers_[2] = digest * digest;
  }

  [[nodiscard]] double* data() noexcept { return numbers_.data(); }
  [[nodiscard]] isize size() const noexcept { return static_cast<isize>(numbers_.size()); }
  [[nodiscard]] std::span<double> side() noexcept { return std::span(numbers_).subspan(own); }

  /// After the sum: whether any rank failed.
  [[nodiscard]] bool any_failed() const noexcept { return numbers_[0] > 0; }
  /// After the sum: W sum(d^2) = (sum d)^2 holds exactly if all d are equal (Cauchy-Schwarz).
  [[nodiscard]] bool all_alike(int ranks) const noexcept { return numbers_[2] * ranks == numbers_[1] * numbers_[1]; }

private:
  static constexpr isize own = 3;
  std::vector<double> numbers_;
};

} // namespace dpopt
