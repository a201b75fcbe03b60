// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// What the recording double does its work with, on the CPU: host memory, and kernels on the executor.
#pragma once

#include "support/simt/simt.hpp"

#include "dpopt/core/types.hpp"
#include "dpopt/cuda/device_api.hpp"
#include "dpopt/cuda/dialect.cuh"

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <cstring>

namespace simt {

/// Work is done when a call returns. No two calls at the same time.
struct device {
  struct event {};

  [[nodiscard]] static void* allocate(std::size_t bytes) {
    return std::malloc(std::max<std::size_t>(bytes, 1)); // exact, for AddressSanitizer
  }
  static void deallocate(void* p) noexcept { std::free(p); }
  [[nodiscard]] static void* allocate_pinned(std::size_t bytes) { return allocate(bytes); }
  static void deallocate_pinned(void* p) noexcept { std::free(p); }
  static void copy(void* to, const void* from, std::size_t bytes, dpopt::cuda::copy_direction) {
    std::memcpy(to, from, bytes);
  }
  static void zero(void* p, std::size_t bytes) { std::memset(p, 0, bytes); }
  [[nodiscard]] static event make_event() { return {}; }
  static void record(event&) {}
  static void wait(event&) {}
  static void wait_on_host(event&) {}
  static void synchronize() {}

  template <class... P>
  static void launch(dpopt::cuda::launch_shape shape, void (*kernel)(P...), P... args) {
    simt::launch(kernel, dim3(shape.blocks), dim3(shape.threads), args...);
  }
  template <class V>
  static void add_transposed_product(dpopt::isize m, dpopt::isize n, dpopt::isize k, const V* a, const V* b, V* out) {
    for (dpopt::isize r = 0; r < k; ++r)
      for (dpopt::isize i = 0; i < m; ++i)
        for (dpopt::isize j = 0; j < n; ++j) out[i * n + j] += a[r * m + i] * b[r * n + j];
  }
};

} // namespace simt
