// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Where sources, accumulators and communicators put their work: a device, the one stream of the optimizer, and scratch
/// memory that grows in the first step and is then kept.
#pragma once

#include "dpopt/core/types.hpp"
#include "dpopt/cuda/device_api.hpp"
#include "dpopt/cuda/device_vector.hpp"

#include <cstddef>
#include <utility>

namespace dpopt::cuda {

/// Everything goes to one stream, so what is asked for later may use what was asked for earlier without more ado.
template <DeviceApi D>
class device_work {
public:
  explicit device_work(D device) : device_(std::move(device)) {}

  [[nodiscard]] D& device() noexcept { return device_; }
  [[nodiscard]] auto stream() const noexcept { return device_.stream(); }

  /// Launches `kernel` on the stream; nothing for a shape of no blocks.
  template <class Shape, class Kernel, class... Given>
  void launch(call_site call, Shape shape, Kernel* kernel, Given... args) {
    device_.launch(stream(), call, shape, kernel, args...);
  }
  void zero(void* p, std::size_t bytes, call_site call) { device_.zero(p, bytes, stream(), call); }
  void copy(void* to, const void* from, std::size_t bytes, copy_direction where, call_site call) {
    device_.copy(to, from, bytes, where, stream(), call);
  }
  template <class V>
  void add_transposed_product(isize m, isize n, isize k, const V* a, const V* b, V* out, call_site call) {
    device_.add_transposed_product(m, n, k, a, b, out, stream(), call);
  }

  /// Room for n numbers until the next call of scratch(): one user at a time, in the order of the stream.
  template <class T>
  [[nodiscard]] T* scratch(isize n) {
    const auto bytes = n * static_cast<isize>(sizeof(T));
    scratch_.reserve(device_, bytes, "allocate scratch");
    return reinterpret_cast<T*>(scratch_.data()); // memory of the device is aligned for every type
  }

private:
  D device_;
  device_vector<std::byte, D> scratch_;
};

} // namespace dpopt::cuda
