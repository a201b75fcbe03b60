// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Ranks as threads, each with a recording device of its own: a DeviceCommunicator whose sums are on the stream.
#pragma once

#include "support/recording_api.hpp"

#include "dpopt/communication/threads.hpp"
#include "dpopt/communication/wire.hpp"
#include "dpopt/cuda/device_communicator.hpp"

#include <optional>
#include <utility>

namespace dpopt::testing {

/// A sum that is told to fail has reached the other ranks all the same, as one that a device refuses after the fact.
class device_ranks {
public:
  using role = roles::communicator;

  explicit device_ranks(threads host) : host_(std::move(host)) {}

  [[nodiscard]] threads& host() noexcept { return host_; }
  template <WireNumber V>
  void sum(cuda::device_work<recording_api>& on, V* sums, isize n) {
    device_ = on.device();
    auto request = host_.start_sum(sums, n);
    host_.wait(request);
    on.device().all_reduce(on.stream(), "all_reduce");
  }

  void abandon() noexcept {
    if (device_) device_->abandon(device_->stream());
  }

private:
  threads host_;
  std::optional<recording_api> device_; // of the last sum
};

static_assert(cuda::DeviceCommunicator<device_ranks, recording_api, float> && cuda::AbandonsSums<device_ranks>);

} // namespace dpopt::testing
