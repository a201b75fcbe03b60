// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The one thing of a step that the host waits for, and only when its clipper learns: the norms of its samples, copied
/// to the host at the end of each microbatch, behind an event.
#pragma once

#include "dpopt/core/types.hpp"
#include "dpopt/cuda/device_work.hpp"
#include "dpopt/dp_optimizer/microbatch.hpp"

#include <cstddef>
#include <vector>

namespace dpopt::cuda {

/// PRIVATE. A microbatch's squared norms, [groups x samples], and weights, once the event has passed.
struct observed_microbatch {
  isize samples = 0;
  double gradient_scale = 1;
  const double* squared_norms = nullptr;
  const double* weights = nullptr; ///< null: all are 1

  [[nodiscard]] double weight(isize i) const noexcept { return weights ? weights[i] : 1.0; }
};

/// Page-locked memory for the microbatches of a step, kept for the next one.
template <DeviceApi D>
class observed_norms {
public:
  /// Starts the copy of a microbatch's norms (device memory) and weights (device memory, or null).
  void fetch(device_work<D>& on, const microbatch& m, const double* norms, isize groups) {
    if (m.samples == 0) return;
    if (used_ == parts_.size()) parts_.push_back(part{on.device().make_event("make norms event"), {}, {}});
    part& next = parts_[used_];
    const isize numbers = groups * m.samples;
    next.memory.reserve(on.device(), numbers + m.samples);
    next.seen = {m.samples, m.gradient_scale, next.memory.data(), m.weights ? next.memory.data() + numbers : nullptr};
    on.copy(next.memory.data(), norms, static_cast<std::size_t>(numbers) * sizeof(double), copy_direction::to_host,
            "copy norms");
    if (m.weights)
      on.copy(next.memory.data() + numbers, m.weights, static_cast<std::size_t>(m.samples) * sizeof(double),
              copy_direction::to_host, "copy weights");
    on.device().record(next.passed, on.stream(), "record norms");
    ++used_;
  }

  /// WAITS for each microbatch's event and hands it over, in order, once.
  template <class F>
  void wait(device_work<D>& on, F&& observe) {
    for (; seen_ < used_; ++seen_) {
      on.device().wait(parts_[seen_].passed, "wait for norms");
      observe(parts_[seen_].seen);
    }
  }

  /// The step is over. Copies that nobody waited for are ordered before the next ones into the same memory; a device
  /// frees page-locked memory only when they are done.
  void forget() noexcept { used_ = seen_ = 0; }

private:
  struct part {
    typename D::event passed;
    pinned_vector<double, D> memory;
    observed_microbatch seen;
  };
  std::vector<part> parts_;
  std::size_t used_ = 0;
  std::size_t seen_ = 0;
};

} // namespace dpopt::cuda
