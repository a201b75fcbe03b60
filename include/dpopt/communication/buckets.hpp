// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Which parameters travel together, and when. Not a template, so that every composition shares one copy.
///
/// Parameters lie in one contiguous array in REVERSE order of registration: backward finishes the last layer first, so
/// the first bucket is full while earlier layers are still being differentiated. Buckets start in the one order
/// 0, 1, 2, ... on every rank, whatever order the parameters were ready in: an early bucket waits for its turn. Hence
/// all ranks post the same sequence of sums, also a rank without samples.
#pragma once

#include "dpopt/core/error.hpp"
#include "dpopt/core/types.hpp"

#include <cstddef>
#include <limits>
#include <optional>
#include <span>
#include <utility>
#include <vector>

namespace dpopt {

/// A piece of the contiguous array that is reduced by one sum.
struct bucket {
  isize first = 0;            ///< offset of its first element
  isize size = 0;             ///< elements; 0 when all its members are empty
  isize members = 0;          ///< parameters in it, empty ones included; never 0
  isize lowest_parameter = 0; ///< its members are lowest_parameter ... lowest_parameter + members - 1
};

/// Where every parameter lies. Immutable.
class bucket_plan {
public:
  /// The plan of no parameters.
  bucket_plan() = default;

  /// @param sizes    Elements of each parameter in registration order; 0 is allowed.
  /// @param capacity Most elements a bucket holds; a larger parameter gets a bucket of its own.
  /// @throw invalid_argument If a size is negative, the capacity is below 1, or the total does not fit in isize.
  bucket_plan(std::span<const isize> sizes, isize capacity)
      : sizes_(sizes.begin(), sizes.end()), offsets_(sizes.size()), bucket_of_(sizes.size()) {
    if (capacity < 1) throw invalid_argument(message("bucket capacity is ", capacity, " elements; give 1 or more"));
    for (isize p = parameters() - 1; p >= 0; --p) {
      const isize n = size(p);
      if (n < 0) throw invalid_argument(message("parameter ", p, " has ", n, " elements; give 0 or more"));
      if (n > std::numeric_limits<isize>::max() - total_)
        throw invalid_argument(message("parameter ", p, " has ", n, " elements, and the total is beyond any memory"));
      const bool fits = !buckets_.empty() && (n == 0 || n <= capacity - buckets_.back().size);
      if (!fits) buckets_.push_back({.first = total_});
      bucket& last = buckets_.back();
      last.size += n;
      ++last.members;
      last.lowest_parameter = p;
      offsets_[static_cast<std::size_t>(p)] = total_;
      bucket_of_[static_cast<std::size_t>(p)] = std::ssize(buckets_) - 1;
      total_ += n;
    }
  }

  [[nodiscard]] isize parameters() const noexcept { return std::ssize(sizes_); }
  /// Elements of all parameters: the length of the contiguous array.
  [[nodiscard]] isize total() const noexcept { return total_; }
  /// Elements of parameter p.
  [[nodiscard]] isize size(isize p) const { return sizes_[static_cast<std::size_t>(p)]; }
  /// Offset of parameter p in the contiguous array.
  [[nodiscard]] isize offset(isize p) const { return offsets_[static_cast<std::size_t>(p)]; }
  [[nodiscard]] isize bucket_of(isize p) const { return bucket_of_[static_cast<std::size_t>(p)]; }
  /// In the order in which they start.
  [[nodiscard]] std::span<const bucket> buckets() const noexcept { return buckets_; }

private:
  std::vector<isize> sizes_, offsets_, bucket_of_; // by parameter
  std::vector<bucket> buckets_;
  isize total_ = 0;
};

/// What has been contributed in this step, and which bucket may start. Never allocates after construction.
class bucket_progress {
public:
  bucket_progress() = default;
  explicit bucket_progress(bucket_plan plan)
      : plan_(std::move(plan)), contributed_(static_cast<std::size_t>(plan_.parameters())),
        missing_(plan_.buckets().size()) {
    reset();
  }

  [[nodiscard]] const bucket_plan& plan() const noexcept { return plan_; }

  /// Parameter p is final in the contiguous array.
  /// @throw invalid_argument If p is no parameter.
  /// @throw state_error If p was contributed before in this step, or its bucket has already started.
  void contributed(isize p) {
    if (p < 0 || p >= plan_.parameters())
      throw invalid_argument(message("parameter ", p, " is outside 0 to ", plan_.parameters() - 1));
    if (has_contributed(p)) throw state_error(message("parameter ", p, " was contributed twice in one step"));
    if (plan_.bucket_of(p) < started_) throw state_error(message("parameter ", p, " came after its bucket started"));
    contributed_[static_cast<std::size_t>(p)] = 1;
    --missing_[static_cast<std::size_t>(plan_.bucket_of(p))];
  }

  [[nodiscard]] bool has_contributed(isize p) const { return contributed_[static_cast<std::size_t>(p)] != 0; }

  /// The next bucket, if all its members were contributed; it counts as started. Call until it answers nothing.
  [[nodiscard]] std::optional<isize> next_ready() {
    if (all_started() || missing_[static_cast<std::size_t>(started_)] > 0) return std::nullopt;
    return started_++;
  }

  /// The next bucket, ready or not; it counts as started. Called until it answers nothing, it yields the unposted rest.
  [[nodiscard]] std::optional<isize> rest() {
    if (all_started()) return std::nullopt;
    return started_++;
  }

  [[nodiscard]] bool all_started() const noexcept { return started_ == std::ssize(missing_); }

  /// Begins the next step.
  void reset() {
    for (char& mark : contributed_) mark = 0;
    for (std::size_t k = 0; k < missing_.size(); ++k) missing_[k] = plan_.buckets()[k].members;
    started_ = 0;
  }

private:
  bucket_plan plan_;
  std::vector<char> contributed_; // by parameter
  std::vector<isize> missing_;    // by bucket: members not contributed yet
  isize started_ = 0;             // buckets 0 ... started_ - 1 have started
};

} // namespace dpopt
