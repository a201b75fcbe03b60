// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Ranks as MPI processes (component dpopt::mpi). C interface of MPI 3 only.
///
/// Bits: MPI requires that an all-reduce gives identical results on all ranks, which is what the library needs. It does
/// not require the same bits in another run, and a sum in floating point changes with the number of ranks and with the
/// algorithm that MPI picks. For bits independent of both, reduce integers.
///
/// Failures: every call is checked. What one rank throws, the others do not see, so use dpopt::agree and
/// mpi_environment. Ranks that post different lengths are not detected by MPI; `threads` detects them. dp_optimizer
/// compares its lengths at construction, and they stay as they are.
#pragma once

#include "dpopt/communication/communicator.hpp"
#include "dpopt/communication/wire.hpp"
#include "dpopt/core/error.hpp"
#include "dpopt/mpi/check.hpp"

#include <mpi.h>

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <exception>
#include <limits>
#include <memory>
#include <numeric>
#include <span>
#include <utility>
#include <vector>

namespace dpopt {

/// The communicator of one process. Has a duplicate of the given communicator to itself, so that its collectives never
/// meet the trainer's own. Called by one thread at a time; movable, and a moved-from one may only be destroyed.
class mpi {
public:
  using role = roles::communicator;

  /// A started collective. Destroying it does not wait, and MPI cannot cancel a collective: without a wait the buffer
  /// must stay alive until MPI_Finalize.
  class request {
  public:
    request() = default;
    request(request&& other) noexcept { swap(other); }
    request& operator=(request&& other) noexcept {
      request(std::move(other)).swap(*this);
      return *this;
    }
    ~request() {
      if (first_ != MPI_REQUEST_NULL && parts_) static_cast<void>(parts_.release()); // MPI still reads it
    }

  private:
    friend class mpi;
    /// What MPI reads and writes during a reduce-scatter or all-gather, and where its results belong.
    struct parts {
      std::vector<int> counts, starts; // one a rank and MPI call
      struct moved {
        const std::byte* from;
        std::byte* to;
        std::size_t bytes;
      };
      std::vector<moved> moves;   // one an MPI call; empty for an all-gather
      std::vector<std::byte> own; // this rank's part of a reduce-scatter
    };
    void swap(request& other) noexcept {
      std::swap(first_, other.first_);
      more_.swap(other.more_);
      parts_.swap(other.parts_);
    }
    MPI_Request first_ = MPI_REQUEST_NULL;
    std::vector<MPI_Request> more_; // only for more numbers than one MPI call takes: the usual sum allocates nothing
    std::unique_ptr<parts> parts_;  // comes from the communicator's spare ones, and goes back when it was waited for
  };

  /// Duplicates the communicator. COLLECTIVE: every rank of `parent` must construct at the same point of its program;
  /// destroying is collective too. MPI must be running.
  /// @param parent       An intra-communicator; an error of the duplication itself goes to its error handler.
  /// @param largest_call Most numbers or bytes in one MPI call, from 1 to INT_MAX (clamped); alike on all ranks.
  /// @throw communication_error If MPI is not running or fails.
  /// @throw invalid_argument If parent is MPI_COMM_NULL or an inter-communicator; on all ranks, if largest_call differs
  ///   between them: their calls would not meet.
  explicit mpi(MPI_Comm parent, isize largest_call = std::numeric_limits<int>::max())
      : largest_call_(std::clamp(largest_call, isize{1}, isize{std::numeric_limits<int>::max()})) {
    if (!detail::mpi_is_running())
      throw communication_error("communicator: MPI is not running; make a dpopt::mpi_environment first, in main");
    if (parent == MPI_COMM_NULL) throw invalid_argument("communicator: MPI_COMM_NULL was given; give a communicator");
    int between_groups = 0;
    detail::check_mpi(MPI_Comm_test_inter(parent, &between_groups), "MPI_Comm_test_inter");
    if (between_groups != 0)
      throw invalid_argument("communicator: an inter-communicator was given; merge it by MPI_Intercomm_merge first");
    detail::check_mpi(MPI_Comm_dup(parent, &own_.handle), "MPI_Comm_dup");
    detail::check_mpi(MPI_Comm_set_errhandler(own_.handle, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
    detail::check_mpi(MPI_Comm_rank(own_.handle, &rank_), "MPI_Comm_rank");
    detail::check_mpi(MPI_Comm_size(own_.handle, &size_), "MPI_Comm_size");
    std::int64_t extremes[] = {largest_call_, -largest_call_};
    detail::check_mpi(MPI_Allreduce(MPI_IN_PLACE, extremes, 2, MPI_INT64_T, MPI_MIN, own_.handle), "MPI_Allreduce");
    if (extremes[0] != -extremes[1])
      throw invalid_argument(message("communicator: largest_call is ", extremes[0], " on one rank and ", -extremes[1],
                                     " on another; give all ranks the same"));
  }

  [[nodiscard]] int rank() const noexcept { return rank_; }
  [[nodiscard]] int size() const noexcept { return size_; }

  /// Starts a sum over all ranks, in place; does not wait. Collective; any number of sums may be outstanding.
  /// @throw invalid_argument If n is negative, or values is null and n is not 0.
  /// @throw communication_error If MPI fails.
  template <WireNumber T>
  [[nodiscard]] request start_sum(T* values, isize n) {
    check_sum(values, n);
    request started;
    for (isize first = 0; first < n; first += largest_call_) {
      const int count = static_cast<int>(std::min(largest_call_, n - first));
      MPI_Request& one = first == 0 ? started.first_ : started.more_.emplace_back(MPI_REQUEST_NULL);
      detail::check_mpi(MPI_Iallreduce(MPI_IN_PLACE, values + first, count, datatype<T>(), MPI_SUM, own_.handle, &one),
                        "MPI_Iallreduce");
    }
    return started;
  }

  /// Starts a sum over all ranks whose part r goes to rank r, where it stood; does not wait. Collective.
  ///
  /// Not in place to MPI, whose libraries have faults there: MPICH 4.0 aborts in a check of its own where all parts
  /// before a rank's are empty. Costs memory for this rank's part, which later calls use again.
  /// @throw invalid_argument Unless there is one count a rank, 0 or more, and values is null only for 0 numbers.
  /// @throw communication_error If MPI fails.
  template <WireNumber T>
  [[nodiscard]] request start_reduce_scatter(T* values, std::span<const isize> counts) {
    return start_parts<true>(values, counts, [&](T* slice, const int* lengths, const int*, T* own, MPI_Request* one) {
      detail::check_mpi(MPI_Ireduce_scatter(slice, own, lengths, datatype<T>(), MPI_SUM, own_.handle, one),
                        "MPI_Ireduce_scatter");
    });
  }

  /// Starts to copy each rank's part to all other ranks, in place; does not wait. Collective.
  /// @throw invalid_argument, communication_error As start_reduce_scatter.
  template <WireNumber T>
  [[nodiscard]] request start_all_gather(T* values, std::span<const isize> counts) {
    return start_parts<false>(values, counts,
                              [&](T* slice, const int* lengths, const int* starts, T*, MPI_Request* one) {
                                detail::check_mpi(MPI_Iallgatherv(MPI_IN_PLACE, 0, datatype<T>(), slice, lengths,
                                                                  starts, datatype<T>(), own_.handle, one),
                                                  "MPI_Iallgatherv");
                              });
  }

  /// Returns when the result is in the buffer. In any order, once a request.
  /// @throw communication_error If MPI fails.
  void wait(request& started) {
    detail::check_mpi(MPI_Wait(&started.first_, MPI_STATUS_IGNORE), "MPI_Wait");
    for (MPI_Request& one : started.more_) detail::check_mpi(MPI_Wait(&one, MPI_STATUS_IGNORE), "MPI_Wait");
    started.more_.clear();
    if (!started.parts_) return;
    for (const auto& m : started.parts_->moves) std::memcpy(m.to, m.from, m.bytes);
    spare_.push_back(std::move(started.parts_));
  }

  /// Copies n bytes from the root to every other rank. Collective, blocking.
  /// @throw invalid_argument If n is negative, bytes is null and n is not 0, or root is no rank.
  /// @throw communication_error If MPI fails.
  void broadcast(std::byte* bytes, isize n, int root) {
    check_broadcast(bytes, n, root, size_);
    for (isize first = 0; first < n; first += largest_call_) {
      const int count = static_cast<int>(std::min(largest_call_, n - first));
      detail::check_mpi(MPI_Bcast(bytes + first, count, MPI_BYTE, root, own_.handle), "MPI_Bcast");
    }
  }

private:
  /// Owns the duplicate. After MPI_Finalize there is nothing left to free.
  struct duplicate {
    duplicate() = default;
    duplicate(duplicate&& other) noexcept : handle(std::exchange(other.handle, MPI_COMM_NULL)) {}
    duplicate& operator=(duplicate&& other) noexcept {
      std::swap(handle, other.handle);
      return *this;
    }
    ~duplicate() {
      // Freeing is collective: not while an exception that other ranks may not have unwinds this one.
      if (handle != MPI_COMM_NULL && detail::mpi_is_running() && std::uncaught_exceptions() == 0)
        MPI_Comm_free(&handle);
    }
    MPI_Comm handle = MPI_COMM_NULL;
  };

  template <WireNumber T>
  [[nodiscard]] static MPI_Datatype datatype() noexcept {
    if constexpr (std::same_as<T, float>) return MPI_FLOAT;
    else if constexpr (std::same_as<T, double>) return MPI_DOUBLE;
    else if constexpr (std::same_as<T, std::int64_t>) return MPI_INT64_T;
    else return MPI_UINT64_T;
  }

  /// Makes one call for each slice of at most largest_call_ numbers: call(slice, lengths, starts, own, request) with
  /// what each rank has in it. With Own this rank's result comes in `own`, and is copied to its place by wait().
  template <bool Own, class T, class Call>
  [[nodiscard]] request start_parts(T* values, std::span<const isize> counts, Call&& call) {
    check_parts(values, counts, size_);
    const isize n = std::accumulate(counts.begin(), counts.end(), isize{0});
    request started;
    if (n == 0) return started;
    if (spare_.empty()) started.parts_ = std::make_unique<typename request::parts>();
    else started.parts_ = std::move(spare_.back()), spare_.pop_back();
    auto& parts = *started.parts_;
    const auto calls = static_cast<std::size_t>((n - 1) / largest_call_ + 1);
    parts.counts.assign(calls * counts.size(), 0); // sized at once: MPI keeps pointers into it
    parts.starts.assign(calls * counts.size(), 0);
    parts.moves.clear();
    T* own_part = nullptr;
    if constexpr (Own) { // at least one number, so that MPI gets no null pointer
      const isize numbers = std::max<isize>(counts[static_cast<std::size_t>(rank_)], 1);
      parts.own.resize(std::max(parts.own.size(), static_cast<std::size_t>(numbers) * sizeof(T)));
      own_part = reinterpret_cast<T*>(parts.own.data());
    }
    for (isize first = 0; first < n; first += largest_call_) {
      const auto row = static_cast<std::size_t>(first / largest_call_) * counts.size();
      const isize end = first + std::min(largest_call_, n - first);
      isize begin = 0;
      for (std::size_t r = 0; r < counts.size(); begin += counts[r++]) {
        const isize from = std::clamp(begin, first, end);
        parts.starts[row + r] = static_cast<int>(from - first);
        parts.counts[row + r] = static_cast<int>(std::clamp(begin + counts[r], first, end) - from);
      }
      MPI_Request& one = first == 0 ? started.first_ : started.more_.emplace_back(MPI_REQUEST_NULL);
      call(values + first, parts.counts.data() + row, parts.starts.data() + row, own_part, &one);
      if constexpr (!Own) continue;
      const auto own = row + static_cast<std::size_t>(rank_);
      parts.moves.push_back({reinterpret_cast<const std::byte*>(own_part),
                             reinterpret_cast<std::byte*>(values + first + parts.starts[own]),
                             static_cast<std::size_t>(parts.counts[own]) * sizeof(T)});
      own_part += parts.counts[own];
    }
    return started;
  }

  duplicate own_;
  std::vector<std::unique_ptr<typename request::parts>> spare_; // so that only the first step allocates
  isize largest_call_;
  int rank_ = 0;
  int size_ = 1;
};

static_assert(Scatters<mpi, float> && Scatters<mpi, double>);
static_assert(Scatters<mpi, std::int64_t> && Scatters<mpi, std::uint64_t>);

} // namespace dpopt
