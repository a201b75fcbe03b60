// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Which rank owns which part of each bucket: contiguous, in rank order, of lengths that differ by one at most.
#pragma once

#include "dpopt/communication/buckets.hpp"
#include "dpopt/core/types.hpp"

#include <algorithm>
#include <cstddef>
#include <span>
#include <vector>

namespace dpopt {

/// A stretch of the contiguous array of all parameters.
struct stretch {
  isize first = 0;
  isize size = 0;
};

/// Follows from the plan and the number of ranks alone, so all ranks have the same. Immutable.
class shard_plan {
public:
  /// Nothing is owned.
  shard_plan() = default;

  /// For rank `rank` of `ranks`; 0 <= rank < ranks.
  shard_plan(const bucket_plan& plan, int rank, int ranks) : ranks_(static_cast<std::size_t>(ranks)) {
    for (const bucket& b : plan.buckets()) {
      isize at = b.first;
      for (isize r = 0; r < ranks; ++r) {
        const isize n = b.size / ranks + (r < b.size % ranks ? 1 : 0);
        if (r == rank) own_.push_back({at, n});
        counts_.push_back(n);
        at += n;
      }
    }
  }

  /// Lengths of the ranks' parts of bucket k, in rank order. Lives as long as this object.
  [[nodiscard]] std::span<const isize> counts(isize k) const {
    return std::span(counts_).subspan(static_cast<std::size_t>(k) * ranks_, ranks_);
  }
  /// This rank's part of bucket k.
  [[nodiscard]] stretch own(isize k) const { return own_[static_cast<std::size_t>(k)]; }

private:
  std::size_t ranks_ = 0;
  std::vector<isize> counts_; // [bucket][rank]
  std::vector<stretch> own_;  // by bucket
};

/// Calls f(parameter, first element, count) for what this rank owns of bucket k; nothing for empty parts.
template <class F>
void for_each_owned(const bucket_plan& plan, const shard_plan& shards, isize k, F&& f) {
  const bucket& b = plan.buckets()[static_cast<std::size_t>(k)];
  const stretch own = shards.own(k);
  for (isize p = b.lowest_parameter; p < b.lowest_parameter + b.members; ++p) {
    const isize from = std::max(plan.offset(p), own.first);
    const isize to = std::min(plan.offset(p) + plan.size(p), own.first + own.size);
    if (from < to) f(p, from - plan.offset(p), to - from);
  }
}

} // namespace dpopt
