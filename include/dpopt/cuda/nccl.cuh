// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Sums over ranks by NCCL on the optimizer's stream. Needs nccl.h and libnccl; compiled by nvcc.
///
/// Bits: NCCL leaves the same bits on every rank of one sum, and may leave others with another number of ranks or
/// another topology. For bits independent of both, sum integers (cuda::integer_grid).
///
/// Failures: the start of a sum is checked here. One that a rank never joins leaves the streams of the others waiting,
/// not their hosts: step() still agrees over the host's communicator and throws. Abort the communicator then.
#pragma once

#include "dpopt/communication/communicator.hpp"
#include "dpopt/communication/wire.hpp"
#include "dpopt/core/error.hpp"
#include "dpopt/cuda/device_communicator.hpp"
#include "dpopt/cuda/device_error.hpp"

#include <nccl.h>

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <utility>

namespace dpopt::cuda {

/// DeviceCommunicator. `Host` is a communicator of the core over the same ranks, such as dpopt::mpi: it carries NCCL's
/// unique id, the configuration, the secret and the status of each step.
template <Communicator Host>
class nccl {
public:
  using role = dpopt::roles::communicator;

  /// COLLECTIVE. The current device is this rank's. @throw device_error, or what the host's communicator throws.
  explicit nccl(Host host) : host_(std::move(host)) {
    ncclUniqueId id{};
    if (host_.rank() == 0) check(ncclGetUniqueId(&id), "ncclGetUniqueId", 0);
    host_.broadcast(reinterpret_cast<std::byte*>(&id), static_cast<isize>(sizeof id), 0);
    ncclComm_t made = nullptr;
    check(ncclCommInitRank(&made, host_.size(), id, host_.rank()), "ncclCommInitRank", 0);
    own_.reset(made);
  }

  [[nodiscard]] Host& host() noexcept { return host_; }

  /// Puts an in-place sum on the stream. COLLECTIVE. @throw device_error.
  template <class D, WireNumber V>
  void sum(device_work<D>& on, V* sums, isize n) {
    check_sum(sums, n);
    if (n == 0) return;
    check(ncclAllReduce(sums, sums, static_cast<std::size_t>(n), type_of<V>(), ncclSum, own_.get(), on.stream()),
          "ncclAllReduce", reinterpret_cast<std::uintptr_t>(on.stream()));
  }

private:
  struct destroy {
    void operator()(ncclComm_t c) const noexcept { static_cast<void>(ncclCommDestroy(c)); }
  };

  static void check(ncclResult_t code, call_site call, std::uintptr_t stream) {
    if (code != ncclSuccess) throw_device_error(call, stream, ncclGetErrorString(code), static_cast<int>(code));
  }
  template <class V>
  [[nodiscard]] static constexpr ncclDataType_t type_of() noexcept {
    if constexpr (std::same_as<V, float>) return ncclFloat32;
    else if constexpr (std::same_as<V, double>) return ncclFloat64;
    else if constexpr (std::same_as<V, std::int64_t>) return ncclInt64;
    else return ncclUint64;
  }

  Host host_;
  std::unique_ptr<ncclComm, destroy> own_;
};

} // namespace dpopt::cuda
