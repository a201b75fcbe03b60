// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Sums over ranks by a library with NCCL's calls, on the optimizer's stream: the part that needs no such library, so
/// that tests can take its place. nccl.cuh is NCCL itself.
///
/// Failures: where ranks meet for the first time, when they join and when they connect for a sum, a rank that failed
/// never comes, and the library has no word for it. So no call of it waits for other ranks: hosts ask it in turns
/// whether it is done, tell each other by the host's communicator after each turn, and all throw the same error when
/// one of them failed. Later sums of the same length cost no such turn: a rank that cannot start one leaves the streams
/// of the others waiting, not their hosts, which hear of it from the host's communicator and abandon() theirs.
#pragma once

#include "dpopt/communication/communicator.hpp"
#include "dpopt/communication/failure.hpp"
#include "dpopt/communication/wire.hpp"
#include "dpopt/cuda/device_communicator.hpp"
#include "dpopt/cuda/device_error.hpp"

#include <array>
#include <chrono>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <thread>
#include <type_traits>
#include <utility>

namespace dpopt::cuda {

/// The calls; each returns a code, 0 for success or in_progress for what the library goes on with by itself. None but
/// leave() waits for another rank. A handle is a pointer, null for none; abort() ends whatever is in progress.
template <class L>
concept CollectiveLibrary =
    std::movable<L> && std::is_trivially_copyable_v<typename L::id> && std::is_pointer_v<typename L::handle> &&
    requires(L library, typename L::id& id, typename L::handle& made, typename L::handle h, int n) {
      { L::in_progress } -> std::convertible_to<int>;
      { library.make_id(id) } -> std::same_as<int>;            // on one rank, for all
      { library.join(made, n, id, n) } -> std::same_as<int>;   // ranks, id, rank: collective; begins it
      { library.state(h) } -> std::same_as<int>;               // of what was begun last
      { library.text(n) } -> std::convertible_to<const char*>; // of a code
      library.leave(h);                                        // collective, after the last sum
      library.abort(h);                                        // local; ends sums that other ranks never join
    };

/// DeviceCommunicator. `Host` is a communicator of the core over the same ranks: it carries the id, the configuration,
/// the secret and the status of each step.
template <CollectiveLibrary Library, Communicator Host>
  requires Reduces<Host, double>
class nccl_ranks {
public:
  using role = dpopt::roles::communicator;

  /// COLLECTIVE. The current device is this rank's. @throw device_error where there is one rank, else rank_error on all
  /// ranks alike; what the host's communicator throws.
  explicit nccl_ranks(Host host, Library library = {}) : host_(std::move(host)), library_(std::move(library)) {
    root_says said{}; // the same on all ranks, whatever it is
    if (host_.rank() == 0) said.code = library_.make_id(said.id);
    try {
      host_.broadcast(reinterpret_cast<std::byte*>(&said), static_cast<isize>(sizeof said), 0);
      failure problem;
      problem.record([&] { check(said.code, "ncclGetUniqueId", 0); });
      finish_together("ncclCommInitRankConfig", 0, problem,
                      [&] { return library_.join(own_, host_.size(), said.id, host_.rank()); });
    } catch (...) {
      abandon();
      throw;
    }
  }

  nccl_ranks(nccl_ranks&& other) noexcept
      : host_(std::move(other.host_)), library_(std::move(other.library_)), own_(std::exchange(other.own_, nullptr)),
        connected_for_(other.connected_for_) {}
  nccl_ranks& operator=(nccl_ranks&& other) noexcept {
    std::swap(host_, other.host_);
    std::swap(library_, other.library_);
    std::swap(own_, other.own_);
    std::swap(connected_for_, other.connected_for_);
    return *this;
  }
  /// Leaving is collective: not while an exception that the other ranks may not have unwinds this one.
  ~nccl_ranks() {
    if (std::uncaught_exceptions() > 0) abandon();
    else if (own_) library_.leave(own_);
  }

  [[nodiscard]] Host& host() noexcept { return host_; }

  /// Puts an in-place sum on the stream. COLLECTIVE; the first of its length also on the host. @throw device_error,
  /// also after abandon(); where ranks connect for it, rank_error on all ranks alike, and what the host's communicator
  /// throws.
  template <class D, WireNumber V>
  void sum(device_work<D>& on, V* sums, isize n) {
    check_sum(sums, n);
    if (n == 0) return;
    const auto stream = on.stream();
    const auto begin = [&] {
      if (!own_) throw device_error("device call ncclAllReduce: this communicator was abandoned; make a new one");
      return library_.sum(sums, n, own_, stream);
    };
    const std::size_t bytes = static_cast<std::size_t>(n) * sizeof(V); // what the way of a sum depends on
    if (bytes == connected_for_) {
      int code = begin();
      for (; code == Library::in_progress; code = library_.state(own_)) std::this_thread::yield();
      return check(code, "ncclAllReduce", number_of(stream));
    }
    failure problem;
    finish_together("ncclAllReduce", number_of(stream), problem, begin);
    connected_for_ = bytes;
  }

  /// Takes part no longer: sums that are on a stream and that not all ranks have joined end, with numbers that mean
  /// nothing, and what follows them on the stream goes on. Local.
  void abandon() noexcept {
    if (own_) library_.abort(std::exchange(own_, nullptr));
  }

private:
  struct root_says {
    int code;
    typename Library::id id;
  };

  /// COLLECTIVE. Calls `begin` and returns when the library is done with it on every rank. When one of them failed, be
  /// it before (`problem`), every rank throws; what is in progress then never ends and is to be abandoned.
  template <class Begin>
  void finish_together(call_site call, std::uintptr_t stream, failure& problem, const Begin& begin) {
    int code = 0;
    problem.record([&] { code = begin(); });
    for (bool first = true;; first = false) {
      if (!first) std::this_thread::sleep_for(std::chrono::milliseconds(1));
      if (code == Library::in_progress) code = library_.state(own_);
      if (code != Library::in_progress) problem.record([&] { check(code, call, stream); });
      std::array<double, 2> ranks{problem ? 1.0 : 0.0, code == Library::in_progress ? 1.0 : 0.0};
      dpopt::detail::sum_now(host_, ranks);
      if (ranks[0] > 0) problem.raise_together(host_);
      if (ranks[1] == 0) return;
    }
  }

  void check(int code, call_site call, std::uintptr_t stream) {
    if (code != 0) throw_device_error(call, stream, library_.text(code), code);
  }
  template <class S>
  [[nodiscard]] static std::uintptr_t number_of(S stream) noexcept {
    if constexpr (std::is_pointer_v<S>) return reinterpret_cast<std::uintptr_t>(stream);
    else return static_cast<std::uintptr_t>(stream);
  }

  Host host_;
  Library library_;
  typename Library::handle own_ = nullptr;
  std::size_t connected_for_ = 0; // bytes of the last sum that all ranks were heard to have begun
};

} // namespace dpopt::cuda
