// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Sums of device memory by way of page-locked host memory: for every communicator of the core, whatever it knows of
/// devices. WAITS for the device once a step.
///
/// Order: the host waits for the stream before it looks at the copy; the copy back is on the stream, so work that
/// follows there sees the sum; and before the memory is used again the host waits for the event behind the copy back.
#pragma once

#include "dpopt/communication/communicator.hpp"
#include "dpopt/communication/failure.hpp"
#include "dpopt/communication/wire.hpp"
#include "dpopt/cuda/device_communicator.hpp"
#include "dpopt/cuda/device_vector.hpp"

#include <cstddef>
#include <optional>
#include <utility>
#include <vector>

namespace dpopt::cuda {

/// Joins a sum over ranks with zeros: what a rank does whose own numbers cannot be had, so that the others, which are
/// about to learn of it, do not wait for ever.
template <Communicator Host, WireNumber V>
void join_with_zeros(Host& host, isize n) {
  std::vector<V> zeros(static_cast<std::size_t>(n), V{});
  auto request = host.start_sum(zeros.data(), n);
  host.wait(request);
}

/// DeviceCommunicator of device D over the ranks of Host.
template <DeviceApi D, Communicator Host>
class staged {
public:
  using role = dpopt::roles::communicator;

  explicit staged(Host host) : host_(std::move(host)) {}

  [[nodiscard]] Host& host() noexcept { return host_; }

  /// In place. COLLECTIVE, also when it throws for a failure of the device. @throw device_error, or what Host throws.
  template <WireNumber V>
  void sum(device_work<D>& on, V* sums, isize n) {
    check_sum(sums, n);
    if (n == 0 || host_.size() == 1) return;
    const auto bytes = static_cast<std::size_t>(n) * sizeof(V);
    failure problem;
    problem.record([&] { fetch(on, sums, bytes); });
    if (problem) join_with_zeros<Host, V>(host_, n);
    problem.raise();
    V* const numbers = reinterpret_cast<V*>(memory_.data()); // page-aligned
    auto request = host_.start_sum(numbers, n);
    host_.wait(request);
    on.copy(sums, numbers, bytes, copy_direction::to_device, "copy sums to device");
    on.device().record(*returned_, on.stream(), "record staging");
    under_way_ = true;
  }

private:
  void fetch(device_work<D>& on, const void* sums, std::size_t bytes) {
    if (!returned_) returned_.emplace(on.device().make_event("make staging event"));
    if (std::exchange(under_way_, false)) on.device().wait(*returned_, "wait for staging");
    memory_.reserve(on.device(), static_cast<isize>(bytes), "allocate staging");
    on.copy(memory_.data(), sums, bytes, copy_direction::to_host, "copy sums to host");
    on.device().synchronize(on.stream(), "synchronize sums");
  }

  Host host_;
  pinned_vector<std::byte, D> memory_;
  std::optional<typename D::event> returned_;
  bool under_way_ = false; // a copy back that the event stands behind
};

} // namespace dpopt::cuda
