// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// What a run with correlated noise declares beforehand: its releases and in how many of them a record may take part.
///
/// The number of releases is enforced: one more is refused. Participation is the trainer's promise, as nothing here
/// sees which records a batch holds; the sensitivity, and so every epsilon, rests on it. The promise must hold for each
/// record by itself: whether it takes part in a release may not depend on other records, so the relation to use is
/// zero_out or replace_one (add_remove where membership is drawn record by record, as from a hash of the record).
#pragma once

#include "dpopt/core/error.hpp"

#include <algorithm>
#include <cstdint>
#include <limits>
#include <string>

namespace dpopt {

/// Made by once(), separated() or cyclic().
struct run_plan {
  std::uint64_t releases = 0;       ///< at most; the number of rows of the matrices
  std::uint64_t separation = 1;     ///< releases i < j with the same record have j - i >= separation
  std::uint64_t participations = 1; ///< of one record, at most
  bool same_place = false;          ///< a record's releases are at exact multiples of the separation after its first

  /// Each record takes part at most once: one pass over the data.
  [[nodiscard]] static run_plan once(std::uint64_t releases) { return {releases, 1, 1, false}; }

  /// Two releases with the same record are at least `separation` apart (1: it may be in all), at most `most` of them.
  [[nodiscard]] static run_plan separated(std::uint64_t releases, std::uint64_t separation,
                                          std::uint64_t most = std::numeric_limits<std::uint64_t>::max()) {
    return {releases, separation, most, false};
  }

  /// Passes over the data in one fixed order of batches: a record is in releases i, i + period, i + 2 period, ...
  [[nodiscard]] static run_plan cyclic(std::uint64_t releases, std::uint64_t period) {
    return {releases, period, std::numeric_limits<std::uint64_t>::max(), true};
  }

  /// What the bounds leave: min(participations, ceil(releases / separation)).
  [[nodiscard]] std::uint64_t most_participations() const noexcept {
    return std::min(participations, releases / separation + (releases % separation == 0 ? 0 : 1));
  }

  /// @throw invalid_argument naming the field outside its range.
  void validate() const {
    constexpr std::uint64_t most = std::uint64_t{1} << 26; // the sensitivity takes time and memory of this order
    if (releases == 0 || releases > most)
      throw invalid_argument(
          message("run_plan: releases is ", releases, "; declare how many there will be, 1 to ", most));
    if (separation == 0)
      throw invalid_argument("run_plan: separation is 0; 1 lets a record take part in every release");
    if (participations == 0) throw invalid_argument("run_plan: participations is 0; give 1 or more");
  }

  /// For describe() and comparison between ranks.
  [[nodiscard]] std::string describe() const {
    if (most_participations() == 1) return message(releases, " releases, a record in one");
    return message(releases, " releases, a record in ", most_participations(), ", ", same_place ? "each " : "at least ",
                   separation, " apart");
  }
};

} // namespace dpopt
