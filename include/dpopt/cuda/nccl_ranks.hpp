// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Sums over ranks by a library with NCCL's calls, on the optimizer's stream: the part that needs no such library, so
/// that tests can take its place. nccl.cuh is NCCL itself.
///
/// Failures: a rank that cannot start a sum leaves the streams of the others waiting, not their hosts, which hear of it
/// from the host's communicator and abandon() theirs. What rank 0 has to say of the id goes to all ranks, which throw
/// the same error. A rank that cannot join leaves the others waiting in the library, which has no word for it.
#pragma once

#include "dpopt/communication/communicator.hpp"
#include "dpopt/communication/failure.hpp"
#include "dpopt/communication/wire.hpp"
#include "dpopt/cuda/device_communicator.hpp"
#include "dpopt/cuda/device_error.hpp"

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <type_traits>
#include <utility>

namespace dpopt::cuda {

/// The calls; each returns a code, 0 for success. A handle is a pointer, null for none.
template <class L>
concept CollectiveLibrary =
    std::movable<L> && std::is_trivially_copyable_v<typename L::id> && std::is_pointer_v<typename L::handle> &&
    requires(L library, typename L::id& id, typename L::handle& made, typename L::handle h, int n) {
      { library.make_id(id) } -> std::same_as<int>;            // on one rank, for all
      { library.join(made, n, id, n) } -> std::same_as<int>;   // ranks, id, rank: collective
      { library.text(n) } -> std::convertible_to<const char*>; // of a code
      library.leave(h);                                        // collective, after the last sum
      library.abort(h);                                        // local; ends sums that other ranks never join
    };

/// DeviceCommunicator. `Host` is a communicator of the core over the same ranks: it carries the id, the configuration,
/// the secret and the status of each step.
template <CollectiveLibrary Library, Communicator Host>
class nccl_ranks {
public:
  using role = dpopt::roles::communicator;

  /// COLLECTIVE. The current device is this rank's. @throw device_error where there is one rank, else rank_error on all
  /// ranks alike; what the host's communicator throws.
  explicit nccl_ranks(Host host, Library library = {}) : host_(std::move(host)), library_(std::move(library)) {
    failure problem;
    root_says said{}; // the same on all ranks, whatever it is
    if (host_.rank() == 0) said.code = library_.make_id(said.id);
    host_.broadcast(reinterpret_cast<std::byte*>(&said), static_cast<isize>(sizeof said), 0);
    problem.record([&] {
      check(said.code, "ncclGetUniqueId", 0);
      check(library_.join(own_, host_.size(), said.id, host_.rank()), "ncclCommInitRank", 0);
    });
    try {
      problem.raise_together(host_);
    } catch (...) {
      abandon();
      throw;
    }
  }

  nccl_ranks(nccl_ranks&& other) noexcept
      : host_(std::move(other.host_)), library_(std::move(other.library_)), own_(std::exchange(other.own_, nullptr)) {}
  nccl_ranks& operator=(nccl_ranks&& other) noexcept {
    std::swap(host_, other.host_);
    std::swap(library_, other.library_);
    std::swap(own_, other.own_);
    return *this;
  }
  /// Leaving is collective: not while an exception that the other ranks may not have unwinds this one.
  ~nccl_ranks() {
    if (std::uncaught_exceptions() > 0) abandon();
    else if (own_) library_.leave(own_);
  }

  [[nodiscard]] Host& host() noexcept { return host_; }

  /// Puts an in-place sum on the stream. COLLECTIVE. @throw device_error, also after abandon().
  template <class D, WireNumber V>
  void sum(device_work<D>& on, V* sums, isize n) {
    check_sum(sums, n);
    const auto stream = on.stream();
    if (!own_) throw device_error("device call ncclAllReduce: this communicator was abandoned; make a new one");
    if (n > 0) check(library_.sum(sums, n, own_, stream), "ncclAllReduce", number_of(stream));
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
};

} // namespace dpopt::cuda
