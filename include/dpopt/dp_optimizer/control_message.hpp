// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The one short message of doubles a step: did a rank fail, and did all ranks declare the same step?
#pragma once

#include "dpopt/communication/failure.hpp"
#include "dpopt/core/error.hpp"
#include "dpopt/core/types.hpp"
#include "dpopt/parameters/fingerprint.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace dpopt {

/// What must be alike on all ranks at a release; all of it is public.
struct step_declaration {
  std::uint64_t step = 0;
  isize iterations = 0;
  double sampling_rate = 1;
  double noise_multiplier = 0;
  double noise_std = 0;
  std::uint64_t base = 0;    ///< digest of the base optimizer's options
  std::uint64_t updates = 0; ///< that went through: one that failed on one rank only left it behind the others

  static constexpr double digest_limit = 0x1p18; ///< digests are whole numbers below it
  static constexpr int most_ranks = 1 << 17;     ///< over which squares of digests add up exactly in double

  /// A difference goes unseen once in 2^18 steps: this guards against programming errors, not against an adversary.
  [[nodiscard]] double digest() const {
    fingerprint f;
    f.add(step).add(iterations).add(sampling_rate).add(noise_multiplier).add(noise_std).add(base).add(updates);
    return static_cast<double>(f.value() >> 46);
  }

  /// The error when ranks are not alike: this rank's side of it.
  /// @param base_text the base optimizer with its options.
  [[nodiscard]] std::string difference(std::string_view base_text) const {
    return message("ranks differ in what they declared for step ", step, "; this one has ", iterations,
                   " logical batches, sampling rate ", sampling_rate, ", noise multiplier ", noise_multiplier,
                   ", noise std ", noise_std, ", base optimizer ", base_text, ", ", updates,
                   " updates (fewer than elsewhere if one failed on this rank only; resume all ranks from a "
                   "checkpoint then)");
  }
};

/// Five numbers of our own and the clipper's side scalars; as long on every rank, summed over ranks in place.
class control_message {
public:
  explicit control_message(isize side_scalars = 0) : numbers_(static_cast<std::size_t>(own + side_scalars), 0.0) {}

  /// Sets this rank's status; the side scalars are the clipper's, written through side().
  /// @param sampling_rate of this step's batches; 0 when this rank had none.
  void declare(bool failed, double digest, double sampling_rate = 0) noexcept {
    numbers_[0] = failed ? 1.0 : 0.0;
    numbers_[1] = digest;
    numbers_[2] = digest * digest;
    numbers_[3] = sampling_rate;
    numbers_[4] = sampling_rate > 0 ? 1.0 : 0.0;
  }

  [[nodiscard]] double* data() noexcept { return numbers_.data(); }
  [[nodiscard]] isize size() const noexcept { return static_cast<isize>(numbers_.size()); }
  [[nodiscard]] std::span<double> side() noexcept { return std::span(numbers_).subspan(own); }

  /// After the sum: whether any rank failed.
  [[nodiscard]] bool any_failed() const noexcept { return numbers_[0] > 0; }
  /// After the sum: whether all W ranks declared the same digest; exact up to step_declaration::most_ranks.
  ///
  /// With S the sum of the digests d, Q that of their squares and m = S / W the mean, Q - m S is the sum of (d - m)^2:
  /// 0 if and only if all are m. Digests are whole, so a mean that is not says that they differ. Nothing is rounded:
  /// d < 2^18 and W <= 2^17 keep S below 2^35, and Q as well as m S, for a whole m, below 2^53. A mean that is not
  /// whole is 1 / W >= 2^-17 or more away from whole numbers and below 2^18, so its quotient in double is not whole.
  [[nodiscard]] bool all_alike(int ranks) const noexcept {
    const double mean = numbers_[1] / ranks;
    return mean == std::floor(mean) && numbers_[2] == mean * numbers_[1];
  }

  /// After the sum: the sampling rate that the ranks with batches declared; 0 when none had any.
  [[nodiscard]] double agreed_rate() const noexcept {
    return numbers_[4] > 0 ? std::min(1.0, numbers_[3] / numbers_[4]) : 0;
  }

private:
  static constexpr isize own = 5;
  std::vector<double> numbers_;
};

/// After the sum: whether no rank failed and all declared the same. If not, a rank that has not charged the step does:
/// somewhere noise may be out, and ranks never know less than the others of what it cost; and `problem` holds an error.
/// @param charge called with the rate that the other ranks declared.
/// @param base gives the base optimizer in words, which only an error asks for: a step allocates nothing.
template <class Charge, class Words>
[[nodiscard]] bool ranks_agree(const control_message& control, int ranks, const step_declaration& mine, bool charged,
                               const Charge& charge, const Words& base, failure& problem) {
  if (!control.any_failed() && control.all_alike(ranks)) return true;
  if (!charged && control.agreed_rate() > 0) {
    failure second; // of which nobody hears: the step's own comes first
    second.record([&] { charge(control.agreed_rate()); });
  }
  if (!control.any_failed()) problem.record([&] { throw state_error(mine.difference(base())); });
  return false;
}

} // namespace dpopt
