// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Where the ranks of one process meet; the part of `threads` that knows nothing of number types.
///
/// The k-th collective of every rank is the same collective, number k, counted from 0. Its numbers stay in the ranks'
/// own buffers until the last rank has posted; then every rank that waits takes blocks of it and works on them, so the
/// work is shared and a rank that is late to wait holds nobody up. Nobody leaves a wait, by a return or by an
/// exception, while another rank may still touch its buffer.
///
/// Failure is final: once ranks disagree, or one has left, the collectives that all ranks had posted still complete and
/// every other one throws the same text on every rank. One mutex and one condition guard everything: a collective
/// costs a handful of wake-ups, which is nothing beside a bucket of gradients. No allocation, unless the collectives
/// in flight outgrow the room for 64; then once more.
#pragma once

#include "dpopt/core/error.hpp"
#include "dpopt/core/types.hpp"

#include <algorithm>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <mutex>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace dpopt::detail {

/// What all ranks must ask for alike in one collective, and how elements [first, first + count) of it are done.
struct collective {
  std::string_view verb;             ///< "sum", "broadcast", "reduce-scatter" or "all-gather"
  std::string_view type;             ///< element type in messages
  isize count = 0;                   ///< elements
  int root = 0;                      ///< source of a broadcast; 0 for the others
  std::span<const isize> parts = {}; ///< lengths by rank where ranks have parts; theirs, as the buffer is
  void (*run)(const collective& what, std::span<void* const> buffers, isize first, isize count) = nullptr;

  [[nodiscard]] bool same(const collective& other) const {
    return verb == other.verb && type == other.type && count == other.count && root == other.root &&
           std::ranges::equal(parts, other.parts);
  }
  [[nodiscard]] std::string text() const {
    std::string out = message(verb, " of ", count, " ", type);
    if (verb == "broadcast") out += message(" from rank ", root);
    for (std::size_t r = 0; r < parts.size(); ++r) out += message(r == 0 ? " in parts of " : ", ", parts[r]);
    return out;
  }
};

/// The shared state of all ranks. Every member function may be called from any thread.
class meeting {
public:
  /// What post() answers when the meeting has failed; wait() throws the reason.
  static constexpr std::uint64_t none = std::numeric_limits<std::uint64_t>::max();

  /// @throw invalid_argument If ranks is below 1.
  explicit meeting(int ranks) : ranks_(ranks) {
    if (ranks < 1) throw invalid_argument(message("threads: the number of ranks is ", ranks, "; give 1 or more"));
    places_.resize(static_cast<std::size_t>(ranks));
    grow(64);
  }
  meeting(const meeting&) = delete;
  meeting& operator=(const meeting&) = delete;

  [[nodiscard]] int ranks() const noexcept { return ranks_; }

  /// A rank's communicator came into being. A wrong rank fails the meeting, because the right one will never come.
  /// @throw invalid_argument If the rank is out of range, or this rank has or had a communicator already.
  void join(int rank) {
    const std::lock_guard lock(mutex_);
    if (rank < 0 || rank >= ranks_)
      refuse(message("threads: rank ", rank, " is outside 0 to ", ranks_ - 1, "; give each thread a rank of its own"));
    if (std::exchange(place(rank).joined, true))
      refuse(message("threads: rank ", rank, " has or had a communicator in this world; make a new world"));
  }

  /// A rank was called with arguments that cannot be posted: the others must not wait for it.
  /// @throw invalid_argument Always.
  [[noreturn]] void reject(int rank, const std::string& what) {
    const std::lock_guard lock(mutex_);
    fail([&] { return message("rank ", rank, " made a wrong call: ", what); });
    throw invalid_argument(what);
  }

  /// A rank takes part no longer. Its unfinished collectives fail; its buffers are free when this returns.
  void leave(int rank) noexcept {
    std::unique_lock lock(mutex_);
    if (std::exchange(place(rank).left, true)) return;
    const std::uint64_t next = place(rank).next;
    for (std::uint64_t number = oldest_; number != next; ++number) give_up(lock, rank, number);
    if (entry& e = at(next); next - oldest_ < ring_.size() && e.posted > 0)
      fail([&] { return left_text(rank, next, e.what.text()); });
  }

  /// Posts a rank's next collective with its own buffer, without waiting.
  /// @return Its number, or `none` when it can never complete.
  [[nodiscard]] std::uint64_t post(int rank, const collective& what, void* buffer) {
    const std::lock_guard lock(mutex_);
    const std::uint64_t number = place(rank).next;
    for (int other = 0; other < ranks_; ++other)
      if (place(other).left && place(other).next <= number) fail([&] { return left_text(other, number, what.text()); });
    if (!failure_.empty()) return none;
    if (number - oldest_ >= ring_.size()) grow(2 * ring_.size());
    entry& e = at(number);
    if (e.posted == 0) {
      e.what = what;
      e.first_rank = rank;
    } else if (!e.what.same(what)) {
      fail([&] {
        return message("collective number ", number, " differs between ranks: rank ", e.first_rank, " posted a ",
                       e.what.text(), ", rank ", rank, " posted a ", what.text(),
                       "; post the same sequence on all ranks");
      });
      return none;
    }
    ++place(rank).next;
    e.buffers[static_cast<std::size_t>(rank)] = buffer;
    e.open[static_cast<std::size_t>(rank)] = 1;
    if (++e.posted == ranks_) changed_.notify_all();
    return number;
  }

  /// Works on a collective and returns when it is complete on every rank.
  /// @throw communication_error If it never will be.
  void wait(int rank, std::uint64_t number) {
    std::unique_lock lock(mutex_);
    if (place(rank).left) throw communication_error(message("threads: rank ", rank, " was abandoned"));
    if (number == none) throw communication_error(failure_);
    entry& e = at(number);
    while (!complete(e)) {
      if (e.cancelled && e.busy == 0) {
        close(rank, number);
        throw communication_error(failure_);
      }
      if (!e.cancelled && e.posted == ranks_ && e.taken < e.what.count) work(lock, e);
      else changed_.wait(lock);
    }
    close(rank, number);
  }

  /// A request was dropped without a wait. Its buffer is free when this returns.
  void drop(int rank, std::uint64_t number) noexcept {
    std::unique_lock lock(mutex_);
    if (number != none) give_up(lock, rank, number);
  }

private:
  /// Elements a rank takes at a time: large beside the cost of the lock, small beside a bucket.
  static constexpr isize block = 16384;

  struct rank_place {
    std::uint64_t next = 0; ///< number of the next collective to post
    bool joined = false;
    bool left = false;
  };

  /// One collective in flight.
  struct entry {
    collective what;
    std::vector<void*> buffers; ///< one a rank
    std::vector<char> open;     ///< one a rank: posted, and neither waited for nor given up
    int first_rank = 0;         ///< the rank that posted first, for messages
    int posted = 0;
    int closed = 0;
    int busy = 0;    ///< blocks being worked on at this moment
    isize taken = 0; ///< elements handed out
    isize done = 0;  ///< elements finished
    bool cancelled = false;
  };

  [[nodiscard]] rank_place& place(int rank) { return places_[static_cast<std::size_t>(rank)]; }
  [[nodiscard]] entry& at(std::uint64_t number) { return *ring_[static_cast<std::size_t>(number % ring_.size())]; }
  [[nodiscard]] bool complete(const entry& e) const { return e.posted == ranks_ && e.done == e.what.count; }

  [[nodiscard]] static std::string left_text(int rank, std::uint64_t number, const std::string& what) {
    return message("rank ", rank, " left (its communicator was destroyed or abandoned) before collective number ",
                   number, ", a ", what);
  }

  [[noreturn]] void refuse(const std::string& what) {
    fail([&] { return what; });
    throw invalid_argument(what);
  }

  /// The first failure is the cause and stays. What all ranks have posted can still complete.
  /// @param what gives the text. Not asked after the first: who posted something may be through with it, and its parts
  /// gone.
  template <class Text>
  void fail(const Text& what) {
    if (!failure_.empty()) return;
    failure_ = "communicator: " + what();
    for (auto& e : ring_)
      if (e->posted < ranks_) e->cancelled = true;
    changed_.notify_all();
  }

  /// Takes one block and works on it without the lock.
  void work(std::unique_lock<std::mutex>& lock, entry& e) {
    const isize first = e.taken;
    const isize count = std::min(block, e.what.count - first);
    e.taken += count;
    ++e.busy;
    lock.unlock();
    e.what.run(e.what, e.buffers, first, count);
    lock.lock();
    --e.busy;
    e.done += count;
    if (complete(e) || (e.cancelled && e.busy == 0)) changed_.notify_all();
  }

  void give_up(std::unique_lock<std::mutex>& lock, int rank, std::uint64_t number) {
    if (number < oldest_) return; // every rank is through with it
    entry& e = at(number);
    if (e.open[static_cast<std::size_t>(rank)] == 0) return;
    if (!complete(e)) {
      e.cancelled = true;
      fail([&] {
        return message("rank ", rank, " gave up collective number ", number, ", a ", e.what.text(), ", before its end");
      });
      changed_.notify_all();
      changed_.wait(lock, [&] { return e.busy == 0; });
    }
    close(rank, number);
  }

  /// A rank is through with a collective; room is used again when all ranks are.
  void close(int rank, std::uint64_t number) {
    entry& e = at(number);
    e.open[static_cast<std::size_t>(rank)] = 0;
    ++e.closed;
    for (; at(oldest_).closed == ranks_; ++oldest_) {
      entry& closed = at(oldest_);
      closed.posted = closed.closed = 0;
      closed.taken = closed.done = 0;
      closed.cancelled = false;
    }
  }

  /// Makes room for more collectives in flight. Entries keep their address: a rank may be working on one.
  void grow(std::size_t room) {
    std::vector<std::unique_ptr<entry>> old = std::exchange(ring_, {});
    ring_.resize(room);
    for (std::size_t i = 0; i < old.size(); ++i) {
      const std::uint64_t number = oldest_ + i;
      ring_[static_cast<std::size_t>(number % room)] = std::move(old[static_cast<std::size_t>(number % old.size())]);
    }
    for (auto& e : ring_) {
      if (e) continue;
      e = std::make_unique<entry>();
      e->buffers.resize(places_.size());
      e->open.resize(places_.size());
    }
  }

  std::mutex mutex_;
  std::condition_variable changed_;
  const int ranks_;
  std::vector<rank_place> places_;           ///< one a rank
  std::vector<std::unique_ptr<entry>> ring_; ///< collective number k lives at k modulo the room
  std::uint64_t oldest_ = 0;                 ///< every earlier collective is closed on all ranks
  std::string failure_;                      ///< empty while all is well
};

} // namespace dpopt::detail
