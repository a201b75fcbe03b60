// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The device as the CUDA runtime and cuBLAS give it: one stream, one resource of memory. Compiled by nvcc.
#pragma once

#include "dpopt/core/types.hpp"
#include "dpopt/cuda/cublas_product.cuh"
#include "dpopt/cuda/device_api.hpp"
#include "dpopt/cuda/dialect.cuh"

#include <cuda_runtime.h>

#include <cstdint>
#include <memory>
#include <string>
#include <type_traits>
#include <utility>

namespace dpopt::cuda {

/// @param of CUDA's name of the call where `call` says what it was for. @throw device_error unless it succeeded.
inline void check_cuda(cudaError_t code, call_site call, cudaStream_t stream = nullptr, const char* of = nullptr) {
  if (code == cudaSuccess) return;
  const char* const text = cudaGetErrorString(code);
  throw_device_error(call, reinterpret_cast<std::uintptr_t>(stream), of ? message(of, ": ", text) : std::string(text),
                     static_cast<int>(code));
}

/// Memory from the device's default pool, in the order of the stream.
struct async_memory {
  [[nodiscard]] void* allocate(std::size_t bytes, cudaStream_t stream) const {
    void* p = nullptr;
    check_cuda(cudaMallocAsync(&p, bytes, stream), "cudaMallocAsync", stream);
    return p;
  }
  void deallocate(void* p, std::size_t, cudaStream_t stream) const noexcept {
    static_cast<void>(cudaFreeAsync(p, stream));
  }
};

static_assert(MemoryResource<async_memory, cudaStream_t>);

/// DeviceApi. Copies share the stream, the resource and the cuBLAS handle. The stream and the resource (a pointer-like
/// value, such as a wrapper of rmm::mr::device_memory_resource*) outlive the last copy; the current device is the one
/// that the stream belongs to. What the resource throws becomes a device_error that names the call.
template <MemoryResource<cudaStream_t> Resource = async_memory>
class cuda_api {
public:
  using role = device_role;
  using stream_type = cudaStream_t;

  class event {
  public:
    event() = default;
    event(event&& other) noexcept : handle_(std::exchange(other.handle_, nullptr)) {}
    event& operator=(event&& other) noexcept {
      std::swap(handle_, other.handle_);
      return *this;
    }
    ~event() {
      if (handle_) static_cast<void>(cudaEventDestroy(handle_));
    }

  private:
    friend class cuda_api;
    cudaEvent_t handle_ = nullptr;
  };

  /// @param stream never the legacy default stream when steps are to be captured. @throw device_error.
  explicit cuda_api(cudaStream_t stream, Resource memory = {})
      : stream_(stream), memory_(std::move(memory)),
        workspace_(
            allocate(cublas_product::workspace_bytes, stream, "allocate cuBLAS's workspace"),
            [m = memory_, stream](void* p) mutable { m.deallocate(p, cublas_product::workspace_bytes, stream); }),
        product_(stream, workspace_.get()) {}

  [[nodiscard]] cudaStream_t stream() const noexcept { return stream_; }

  [[nodiscard]] void* allocate(std::size_t bytes, cudaStream_t s, call_site call) {
    return allocate_from(memory_, bytes, s, call);
  }
  void deallocate(void* p, std::size_t bytes, cudaStream_t s) noexcept { memory_.deallocate(p, bytes, s); }
  [[nodiscard]] void* allocate_pinned(std::size_t bytes, call_site call) {
    void* p = nullptr;
    check_cuda(cudaMallocHost(&p, bytes), call, stream_, "cudaMallocHost");
    return p;
  }
  /// WAITS for the stream: a copy may still be under way.
  void deallocate_pinned(void* p) noexcept {
    static_cast<void>(cudaStreamSynchronize(stream_));
    static_cast<void>(cudaFreeHost(p));
  }

  void copy(void* to, const void* from, std::size_t bytes, copy_direction where, cudaStream_t s, call_site call) {
    if (bytes == 0) return;
    const cudaMemcpyKind kind = where == copy_direction::to_device ? cudaMemcpyHostToDevice
                                : where == copy_direction::to_host ? cudaMemcpyDeviceToHost
                                                                   : cudaMemcpyDeviceToDevice;
    check_cuda(cudaMemcpyAsync(to, from, bytes, kind, s), call, s, "cudaMemcpyAsync");
  }
  void zero(void* p, std::size_t bytes, cudaStream_t s, call_site call) {
    if (bytes > 0) check_cuda(cudaMemsetAsync(p, 0, bytes, s), call, s, "cudaMemsetAsync");
  }

  [[nodiscard]] event make_event(call_site call) {
    event e;
    check_cuda(cudaEventCreateWithFlags(&e.handle_, cudaEventDisableTiming), call, stream_, "cudaEventCreate");
    return e;
  }
  void record(event& e, cudaStream_t s, call_site call) {
    check_cuda(cudaEventRecord(e.handle_, s), call, s, "cudaEventRecord");
  }
  void wait(cudaStream_t s, event& e, call_site call) {
    check_cuda(cudaStreamWaitEvent(s, e.handle_, 0), call, s, "cudaStreamWaitEvent");
  }
  void wait(event& e, call_site call) {
    check_cuda(cudaEventSynchronize(e.handle_), call, stream_, "cudaEventSynchronize");
  }
  void synchronize(cudaStream_t s, call_site call) {
    check_cuda(cudaStreamSynchronize(s), call, s, "cudaStreamSynchronize");
  }

  /// Launches a kernel that the dialect describes. A shape of no blocks launches nothing.
  template <class... P>
  void launch(cudaStream_t s, call_site call, launch_shape shape, void (*kernel)(P...),
              std::type_identity_t<P>... args) {
    if (shape.blocks == 0) return;
    void* pointers[sizeof...(P) + 1] = {static_cast<void*>(std::addressof(args))..., nullptr};
    check_cuda(cudaLaunchKernel(reinterpret_cast<const void*>(kernel), dim3(shape.blocks), dim3(shape.threads),
                                pointers, 0, s),
               call, s, "cudaLaunchKernel");
  }

  template <class V>
  void add_transposed_product(isize m, isize n, isize k, const V* a, const V* b, V* out, cudaStream_t, call_site call) {
    product_.add(m, n, k, a, b, out, call);
  }

private:
  cudaStream_t stream_;
  Resource memory_;
  std::shared_ptr<void> workspace_;
  cublas_product product_;
};

static_assert(DeviceApi<cuda_api<>> && MultipliesOn<cuda_api<>, float> && MultipliesOn<cuda_api<>, double>);

} // namespace dpopt::cuda
