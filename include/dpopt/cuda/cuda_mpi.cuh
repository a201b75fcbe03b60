// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Sums over ranks by MPI: straight from device memory where the MPI library says that it can, else by way of
/// page-locked host memory. Both WAIT for the device, since MPI knows no streams; nccl does not. Needs MPI.
///
/// Given device memory, MPI is called by its blocking sum: Open MPI documents that its non-blocking collectives take no
/// device memory.
///
/// Order then: MPI may look only when the work that fills the memory is done, so the host waits for the stream first;
/// work that follows on the stream sees the sum, since MPI has finished before it is asked for.
#pragma once

#include "dpopt/communication/communicator.hpp"
#include "dpopt/communication/failure.hpp"
#include "dpopt/communication/wire.hpp"
#include "dpopt/core/error.hpp"
#include "dpopt/cuda/staged.hpp"

#include <mpi.h>
#if __has_include(<mpi-ext.h>)
#include <mpi-ext.h>
#endif

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <exception>
#include <limits>
#include <utility>
#include <vector>

namespace dpopt::cuda {

/// Whether this MPI library takes pointers to device memory, as far as it tells. Without a word from it: no.
[[nodiscard]] inline bool mpi_takes_device_memory() {
#if defined(MPIX_CUDA_AWARE_SUPPORT) && MPIX_CUDA_AWARE_SUPPORT
  return MPIX_Query_cuda_support() == 1;
#else
  return false;
#endif
}

/// DeviceCommunicator over MPI. `Host` is the core's communicator over the same ranks, dpopt::mpi.
template <DeviceApi D, Communicator Host>
class cuda_mpi {
public:
  using role = dpopt::roles::communicator;

  /// COLLECTIVE: duplicates `parent`, of which `host` was made too. @param aware alike on all ranks; false stages in
  /// any case. @throw communication_error.
  cuda_mpi(Host host, MPI_Comm parent, bool aware = mpi_takes_device_memory())
      : staged_(std::move(host)), aware_(aware) {
    check(MPI_Comm_dup(parent, &own_.handle), "MPI_Comm_dup");
    check(MPI_Comm_set_errhandler(own_.handle, MPI_ERRORS_RETURN), "MPI_Comm_set_errhandler");
  }

  [[nodiscard]] Host& host() noexcept { return staged_.host(); }
  /// Whether MPI is given device memory.
  [[nodiscard]] bool aware() const noexcept { return aware_; }

  /// In place. COLLECTIVE, also when it throws for a failure of the device. @throw device_error, communication_error.
  template <WireNumber V>
  void sum(device_work<D>& on, V* sums, isize n) {
    if (!aware_) return staged_.sum(on, sums, n);
    check_sum(sums, n);
    if (n == 0 || host().size() == 1) return;
    failure problem;
    problem.record([&] { on.device().synchronize(on.stream(), "synchronize sums"); });
    if (!problem) return sum_in_place(sums, n);
    std::vector<V> zeros(static_cast<std::size_t>(n), V{}); // the others wait, and are about to learn of it
    sum_in_place(zeros.data(), n);
    problem.raise();
  }

private:
  /// Freeing is collective, and impossible after MPI_Finalize: not while an exception that the other ranks may not have
  /// unwinds this one.
  struct duplicate {
    duplicate() = default;
    duplicate(duplicate&& other) noexcept : handle(std::exchange(other.handle, MPI_COMM_NULL)) {}
    duplicate& operator=(duplicate&& other) noexcept {
      std::swap(handle, other.handle);
      return *this;
    }
    ~duplicate() {
      int ended = 0;
      MPI_Finalized(&ended);
      if (handle != MPI_COMM_NULL && ended == 0 && std::uncaught_exceptions() == 0) MPI_Comm_free(&handle);
    }
    MPI_Comm handle = MPI_COMM_NULL;
  };

  static void check(int code, const char* call) {
    if (code != MPI_SUCCESS) throw communication_error(message("communicator: ", call, " failed (code ", code, ")"));
  }
  template <class V>
  void sum_in_place(V* numbers, isize n) {
    constexpr isize largest = std::numeric_limits<int>::max();
    for (isize first = 0; first < n; first += largest)
      check(MPI_Allreduce(MPI_IN_PLACE, numbers + first, static_cast<int>(std::min(largest, n - first)), type_of<V>(),
                          MPI_SUM, own_.handle),
            "MPI_Allreduce");
  }
  template <class V>
  [[nodiscard]] static MPI_Datatype type_of() noexcept {
    if constexpr (std::same_as<V, float>) return MPI_FLOAT;
    else if constexpr (std::same_as<V, double>) return MPI_DOUBLE;
    else if constexpr (std::same_as<V, std::int64_t>) return MPI_INT64_T;
    else return MPI_UINT64_T;
  }

  staged<D, Host> staged_;
  duplicate own_;
  bool aware_;
};

} // namespace dpopt::cuda
