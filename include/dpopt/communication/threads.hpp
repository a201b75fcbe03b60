// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Ranks as threads of one process: to try out a distributed run, to test it, or to train on one machine without MPI.
///
/// A sum adds the ranks' numbers in rank order, whatever the order of arrival and whether it is scattered or not, so
/// its bits are the same on every rank and in every run. Unlike MPI this communicator sees all ranks and never leaves
/// one waiting for ever: different lengths, types or roots, a wrong argument, a dropped request, and a rank that is
/// destroyed or abandoned give communication_error on the other ranks, naming the rank. Only a rank that is never
/// constructed is waited for.
#pragma once

#include "dpopt/communication/communicator.hpp"
#include "dpopt/communication/meeting.hpp"
#include "dpopt/communication/wire.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <numeric>
#include <span>
#include <string>
#include <string_view>
#include <utility>

namespace dpopt {

/// The communicator of one rank. Used by one thread at a time; movable, and a moved-from one may only be destroyed.
class threads {
public:
  using role = roles::communicator;

  /// What the ranks share. It serves one communicator a rank; make a new world for the next set of ranks.
  class world {
  public:
    /// @param ranks How many communicators will be made, each with a rank of its own.
    /// @throw invalid_argument If ranks is below 1.
    explicit world(int ranks) : meeting_(std::make_shared<detail::meeting>(ranks)) {}
    [[nodiscard]] int size() const noexcept { return meeting_->ranks(); }

  private:
    friend class threads;
    std::shared_ptr<detail::meeting> meeting_;
  };

  /// A started sum. Destroyed without a wait it gives the sum up, on all ranks: the buffer may then be freed.
  class request {
  public:
    request() = default;
    request(request&& other) noexcept { swap(other); }
    request& operator=(request&& other) noexcept {
      request(std::move(other)).swap(*this);
      return *this;
    }
    ~request() {
      if (meeting_) meeting_->drop(rank_, number_);
    }

  private:
    friend class threads;
    request(std::shared_ptr<detail::meeting> meeting, int rank, std::uint64_t number)
        : meeting_(std::move(meeting)), rank_(rank), number_(number) {}
    void swap(request& other) noexcept {
      std::swap(meeting_, other.meeting_);
      std::swap(rank_, other.rank_);
      std::swap(number_, other.number_);
    }

    std::shared_ptr<detail::meeting> meeting_; // null: complete
    int rank_ = 0;
    std::uint64_t number_ = 0;
  };

  /// Joins a world; does not wait for the other ranks.
  /// @throw invalid_argument If the rank is out of range or taken; the other ranks then fail too.
  threads(world& shared, int rank) : meeting_(shared.meeting_), rank_(rank) { meeting_->join(rank); }
  threads(threads&& other) noexcept = default;
  threads& operator=(threads&& other) noexcept {
    threads old(std::move(*this));
    meeting_ = std::move(other.meeting_);
    rank_ = other.rank_;
    return *this;
  }
  ~threads() { abandon(); }

  [[nodiscard]] int rank() const noexcept { return rank_; }
  [[nodiscard]] int size() const noexcept { return meeting_->ranks(); }

  /// Starts a sum over all ranks, in place; never waits. Collective; any number of sums may be outstanding.
  /// A failure of the ranks is thrown by wait.
  /// @throw invalid_argument If n is negative, or values is null and n is not 0.
  template <WireNumber T>
  [[nodiscard]] request start_sum(T* values, isize n) {
    if (const std::string wrong = buffer_problem(values, n); !wrong.empty()) meeting_->reject(rank_, wrong);
    const detail::collective what{"sum", wire_name<T>(), n, 0, {}, &sum_everywhere<T>};
    return {meeting_, rank_, meeting_->post(rank_, what, values)};
  }

  /// Starts a sum over all ranks whose part r goes to rank r, in place; never waits. Collective.
  /// A failure of the ranks is thrown by wait.
  /// @throw invalid_argument Unless there is one count a rank, 0 or more, and values is null only for 0 numbers.
  template <WireNumber T>
  [[nodiscard]] request start_reduce_scatter(T* values, std::span<const isize> counts) {
    return start_parts("reduce-scatter", values, counts, &sum_where_due<T>);
  }

  /// Starts to copy each rank's part to all other ranks, in place; never waits. Collective.
  /// A failure of the ranks is thrown by wait.
  /// @throw invalid_argument As start_reduce_scatter.
  template <WireNumber T>
  [[nodiscard]] request start_all_gather(T* values, std::span<const isize> counts) {
    return start_parts("all-gather", values, counts, &copy_from_owners<T>);
  }

  /// Returns when the sum is complete; helps to compute it meanwhile. In any order, once a request.
  /// @throw communication_error If ranks differ or one has left; the text is the same on all ranks.
  void wait(request& started) {
    if (!started.meeting_) return;
    const std::shared_ptr<detail::meeting> meeting = std::move(started.meeting_);
    meeting->wait(started.rank_, started.number_);
  }

  /// Copies n bytes from the root to every other rank. Collective, blocking.
  /// @throw invalid_argument If n is negative, bytes is null and n is not 0, or root is no rank.
  /// @throw communication_error As wait.
  void broadcast(std::byte* bytes, isize n, int root) {
    if (const std::string wrong = buffer_problem(bytes, n); !wrong.empty()) meeting_->reject(rank_, wrong);
    if (const std::string wrong = root_problem(root, size()); !wrong.empty()) meeting_->reject(rank_, wrong);
    const detail::collective what{"broadcast", "bytes", n, root, {}, &copy_from_root};
    meeting_->wait(rank_, meeting_->post(rank_, what, bytes));
  }

  /// Takes part no longer: the other ranks fail instead of waiting for this one. For a thread that gives up while its
  /// communicator lives on; the destructor does the same. No buffer of this rank is touched after it returns.
  void abandon() noexcept {
    if (meeting_) meeting_->leave(rank_);
  }

private:
  template <class T>
  [[nodiscard]] request start_parts(std::string_view verb, T* values, std::span<const isize> counts,
                                    decltype(detail::collective::run) run) {
    if (const std::string wrong = parts_problem(values, counts, size()); !wrong.empty()) meeting_->reject(rank_, wrong);
    const isize total = std::accumulate(counts.begin(), counts.end(), isize{0});
    return {meeting_, rank_, meeting_->post(rank_, {verb, wire_name<T>(), total, 0, counts, run}, values)};
  }

  /// Calls f(rank, first, count) for what each rank's part has in common with elements [first, first + count).
  template <class F>
  static void for_each_part(std::span<const isize> parts, isize first, isize count, F&& f) {
    isize begin = 0;
    for (std::size_t r = 0; r < parts.size(); begin += parts[r++]) {
      const isize from = std::max(begin, first);
      const isize to = std::min(begin + parts[r], first + count);
      if (from < to) f(r, from, to - from);
    }
  }

  /// Adds elements [first, first + count) of all buffers and writes the sums to `targets`.
  template <class T>
  static void sum_in_rank_order(std::span<void* const> buffers, std::span<void* const> targets, isize first,
                                isize count) {
    constexpr isize tile = 512; // 4 KiB of running sums stay in the first-level cache
    std::array<T, tile> total;
    for (isize at = first; at < first + count; at += tile) {
      const isize n = std::min(tile, first + count - at);
      std::copy_n(static_cast<const T*>(buffers[0]) + at, n, total.data());
      for (void* buffer : buffers.subspan(1)) {
        const T* part = static_cast<const T*>(buffer) + at;
        for (isize i = 0; i < n; ++i) total[static_cast<std::size_t>(i)] += part[i];
      }
      for (void* target : targets) std::copy_n(total.data(), n, static_cast<T*>(target) + at);
    }
  }

  template <class T>
  static void sum_everywhere(const detail::collective&, std::span<void* const> buffers, isize first, isize count) {
    sum_in_rank_order<T>(buffers, buffers, first, count);
  }

  template <class T>
  static void sum_where_due(const detail::collective& what, std::span<void* const> buffers, isize first, isize count) {
    for_each_part(what.parts, first, count, [&](std::size_t owner, isize from, isize n) {
      sum_in_rank_order<T>(buffers, buffers.subspan(owner, 1), from, n);
    });
  }

  template <class T>
  static void copy_from_owners(const detail::collective& what, std::span<void* const> buffers, isize first,
                               isize count) {
    for_each_part(what.parts, first, count, [&](std::size_t owner, isize from, isize n) {
      const T* source = static_cast<const T*>(buffers[owner]);
      for (void* buffer : buffers)
        if (buffer != source) std::copy_n(source + from, n, static_cast<T*>(buffer) + from);
    });
  }

  static void copy_from_root(const detail::collective& what, std::span<void* const> buffers, isize first, isize count) {
    const std::byte* source = static_cast<const std::byte*>(buffers[static_cast<std::size_t>(what.root)]);
    for (void* buffer : buffers)
      if (buffer != source) std::copy_n(source + first, count, static_cast<std::byte*>(buffer) + first);
  }

  std::shared_ptr<detail::meeting> meeting_;
  int rank_ = 0;
};

static_assert(Scatters<threads, float> && Scatters<threads, double>);
static_assert(Scatters<threads, std::int64_t> && Scatters<threads, std::uint64_t>);

} // namespace dpopt
