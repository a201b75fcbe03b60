// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Sums over ranks by NCCL on the optimizer's stream. Needs nccl.h and libnccl, 2.14 or later; compiled by nvcc.
///
/// The communicator is a non-blocking one (ncclConfig_t::blocking = 0): calls return ncclInProgress where NCCL has to
/// wait, a thread of NCCL's goes on, and ncclCommAbort() ends it at any time (NCCL's user guide, "Fault Tolerance").
/// NCCL_COMM_BLOCKING=1 in the environment undoes that: do not set it.
///
/// Bits: NCCL leaves the same bits on every rank of one sum, and may leave others with another number of ranks or
/// another topology. For bits independent of both, sum integers (cuda::integer_grid).
///
/// Failures: nccl_ranks.hpp.
#pragma once

#include "dpopt/communication/communicator.hpp"
#include "dpopt/communication/wire.hpp"
#include "dpopt/core/types.hpp"
#include "dpopt/cuda/nccl_ranks.hpp"

#include <nccl.h>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <thread>
#include <utility>

namespace dpopt::cuda {

/// NCCL's calls, as nccl_ranks makes them.
struct nccl_calls {
  using id = ncclUniqueId;
  using handle = ncclComm_t;
  static constexpr int in_progress = ncclInProgress;

  [[nodiscard]] static int make_id(id& made) { return ncclGetUniqueId(&made); }
  [[nodiscard]] static int join(handle& made, int ranks, const id& of, int rank) {
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    return ncclCommInitRankConfig(&made, ranks, of, rank, &config);
  }
  [[nodiscard]] static int state(handle h) {
    ncclResult_t of_last = ncclSuccess;
    const ncclResult_t asked = ncclCommGetAsyncError(h, &of_last);
    return asked != ncclSuccess ? asked : of_last;
  }
  template <WireNumber V>
  [[nodiscard]] static int sum(V* sums, isize n, handle h, cudaStream_t stream) {
    return ncclAllReduce(sums, sums, static_cast<std::size_t>(n), type_of<V>(), ncclSum, h, stream);
  }
  [[nodiscard]] static const char* text(int code) { return ncclGetErrorString(static_cast<ncclResult_t>(code)); }
  static void leave(handle h) noexcept {
    int code = ncclCommFinalize(h);
    for (; code == in_progress; code = state(h)) std::this_thread::yield();
    if (code == ncclSuccess) static_cast<void>(ncclCommDestroy(h));
    else abort(h);
  }
  static void abort(handle h) noexcept { static_cast<void>(ncclCommAbort(h)); }

private:
  template <class V>
  [[nodiscard]] static constexpr ncclDataType_t type_of() noexcept {
    if constexpr (std::same_as<V, float>) return ncclFloat32;
    else if constexpr (std::same_as<V, double>) return ncclFloat64;
    else if constexpr (std::same_as<V, std::int64_t>) return ncclInt64;
    else return ncclUint64;
  }
};

static_assert(CollectiveLibrary<nccl_calls>);

/// nccl<dpopt::mpi>(dpopt::mpi(MPI_COMM_WORLD)): DeviceCommunicator over the ranks of Host.
template <Communicator Host>
  requires Reduces<Host, double>
class nccl : public nccl_ranks<nccl_calls, Host> {
public:
  explicit nccl(Host host) : nccl_ranks<nccl_calls, Host>(std::move(host)) {}
};

} // namespace dpopt::cuda
