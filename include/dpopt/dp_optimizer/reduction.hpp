// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// A step's messages on their way over the ranks: which bucket is next, what was started, and whether the communicator
/// failed.
#pragma once

#include "dpopt/communication/buckets.hpp"
#include "dpopt/communication/shards.hpp"
#include "dpopt/core/error.hpp"
#include "dpopt/core/types.hpp"

#include <cstddef>
#include <utility>
#include <vector>

namespace dpopt {

/// Scatters: each rank gets the sum of its own part of each bucket, and gathers the parts of the others.
///
/// After a communicator failed, ranks no longer agree on what was sent, and nothing can go on: broken(), for ever.
template <class Communicator, bool Scatters>
class reduction {
public:
  /// Once, before anything is started.
  void bind(bucket_plan plan, const Communicator& communicator) {
    progress_ = bucket_progress(std::move(plan));
    if constexpr (Scatters) shards_ = shard_plan(this->plan(), communicator.rank(), communicator.size());
    posted_.reserve(static_cast<std::size_t>(this->plan().buckets().size()));
  }

  [[nodiscard]] const bucket_plan& plan() const noexcept { return progress_.plan(); }
  [[nodiscard]] const shard_plan& shards() const noexcept { return shards_; }
  /// What was contributed in this step, and which bucket is next.
  [[nodiscard]] bucket_progress& progress() noexcept { return progress_; }
  /// Whether messages were started and not waited for.
  [[nodiscard]] bool under_way() const noexcept { return !posted_.empty(); }
  [[nodiscard]] bool broken() const noexcept { return broken_; }
  /// @throw communication_error when the communicator failed before.
  void require_whole() const {
    if (broken_) throw communication_error("the communicator failed in an earlier step; make a new optimizer");
  }

  /// Starts the sum of bucket k, whose first element `sums` points at.
  template <class V>
  void start_sum(Communicator& communicator, isize k, V* sums) {
    or_break([&] {
      if constexpr (Scatters) posted_.push_back(communicator.start_reduce_scatter(sums, shards_.counts(k)));
      else posted_.push_back(communicator.start_sum(sums, plan().buckets()[static_cast<std::size_t>(k)].size));
    });
  }
  /// Starts to hand this rank's part of bucket k to the others.
  template <class V>
  void start_gather(Communicator& communicator, isize k, V* bucket) {
    or_break([&] { posted_.push_back(communicator.start_all_gather(bucket, shards_.counts(k))); });
  }
  /// Sums n short numbers, then waits for everything that was started.
  void exchange(Communicator& communicator, double* numbers, isize n) {
    or_break([&] {
      auto request = communicator.start_sum(numbers, n);
      communicator.wait(request);
    });
    wait(communicator);
  }
  void wait(Communicator& communicator) {
    or_break([&] {
      for (auto& r : posted_) communicator.wait(r);
    });
    posted_.clear();
  }

private:
  template <class F>
  void or_break(F&& f) {
    try {
      f();
    } catch (...) {
      broken_ = true;
      throw;
    }
  }

  bucket_progress progress_;
  shard_plan shards_; // only with Scatters
  std::vector<typename Communicator::request> posted_;
  bool broken_ = false;
};

} // namespace dpopt
