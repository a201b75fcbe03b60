// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// What the recording double does its work with under nvcc: cuda_api on a stream of its own, with managed memory, and a
/// wait for the stream behind each call, so that tests may look at once.
#pragma once

#include "support/simt/simt.hpp"

#include "dpopt/core/types.hpp"
#include "dpopt/cuda/cuda_api.cuh"

#include <cstddef>
#include <type_traits>

namespace simt {

/// Memory that the test's own code may read as well. Waits for the device where it is given back.
struct managed_memory {
  [[nodiscard]] void* allocate(std::size_t bytes, cudaStream_t) const {
    void* p = nullptr;
    require(cudaMallocManaged(&p, bytes == 0 ? 1 : bytes), "cudaMallocManaged");
    return p;
  }
  void deallocate(void* p, std::size_t, cudaStream_t) const noexcept { static_cast<void>(cudaFree(p)); }
};

/// No two calls at the same time: all doubles share the one cuda_api.
struct device {
  using api = dpopt::cuda::cuda_api<managed_memory>;
  using event = api::event;

  [[nodiscard]] static void* allocate(std::size_t bytes) { return on().allocate(bytes, on().stream(), "allocate"); }
  static void deallocate(void* p) noexcept { on().deallocate(p, 0, on().stream()); }
  [[nodiscard]] static void* allocate_pinned(std::size_t bytes) { return on().allocate_pinned(bytes, "pinned"); }
  static void deallocate_pinned(void* p) noexcept { on().deallocate_pinned(p); }
  static void copy(void* to, const void* from, std::size_t bytes, dpopt::cuda::copy_direction where) {
    on().copy(to, from, bytes, where, on().stream(), "copy");
    synchronize();
  }
  static void zero(void* p, std::size_t bytes) {
    on().zero(p, bytes, on().stream(), "zero");
    synchronize();
  }
  [[nodiscard]] static event make_event() { return on().make_event("event"); }
  static void record(event& e) { on().record(e, on().stream(), "record"); }
  static void wait(event& e) { on().wait(on().stream(), e, "wait"); }
  static void wait_on_host(event& e) { on().wait(e, "wait"); }
  static void synchronize() { on().synchronize(on().stream(), "synchronize"); }

  template <class... P>
  static void launch(dpopt::cuda::launch_shape shape, void (*kernel)(P...), std::type_identity_t<P>... args) {
    on().launch(on().stream(), "launch", shape, kernel, args...);
    synchronize();
  }
  template <class V>
  static void add_transposed_product(dpopt::isize m, dpopt::isize n, dpopt::isize k, const V* a, const V* b, V* out) {
    on().add_transposed_product(m, n, k, a, b, out, on().stream(), "product");
    synchronize();
  }

private:
  /// Never destroyed: CUDA is not to be called after main.
  static api& on() {
    static api* const one = [] {
      cudaStream_t stream = nullptr;
      require(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreate");
      return new api(stream);
    }();
    return *one;
  }
};

} // namespace simt
