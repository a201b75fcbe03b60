// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The DeviceCommunicator role: sums over ranks of numbers that are on the device. Satisfied by cuda::serial, nccl,
/// cuda_mpi, staged.
///
/// Contract: a communicator of the core on the host carries what the host says (configuration, secret, status of a
/// step); sums of device memory are put on the optimizer's stream, in the same order and length on every rank, and
/// leave the same bits on every rank. A sum that cannot be started throws on its rank, or on all; others learn of it
/// from the host's message of status.
///
/// A transport whose sums wait on the stream for ranks that never join has abandon() noexcept: local, it ends such
/// sums, so that the stream goes on with numbers that mean nothing, and the communicator is of no further use. The
/// optimizer calls it on every rank when a sum could not be started on one.
#pragma once

#include "dpopt/communication/communicator.hpp"
#include "dpopt/communication/serial.hpp"
#include "dpopt/communication/wire.hpp"
#include "dpopt/cuda/device_work.hpp"

#include <concepts>
#include <type_traits>

namespace dpopt::cuda {

template <class C, class D, class V>
concept DeviceCommunicator = std::movable<C> && requires(C c, device_work<D>& on, V* sums, isize n) {
  requires Reduces<std::remove_cvref_t<decltype(c.host())>, double>;
  c.sum(on, sums, n); // collective; put on the stream, so that what follows there sees the sum
};

/// See abandon() above.
template <class C>
concept AbandonsSums = requires(C c) { c.abandon(); };

/// One process with one device.
class serial {
public:
  using role = dpopt::roles::communicator;

  [[nodiscard]] dpopt::serial& host() noexcept { return host_; }
  template <class D, WireNumber V>
  void sum(device_work<D>&, V* sums, isize n) {
    check_sum(sums, n);
  }

private:
  dpopt::serial host_;
};

} // namespace dpopt::cuda
