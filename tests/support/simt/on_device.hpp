// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The executor's names on a real device, for nvcc: tests of kernels compile unchanged and run there.
///
/// Kernels get the addresses of the tests' own vectors, so a program of such tests takes its heap from memory that both
/// sides see (tests/support/device_main.cu). Stacks are not: what a kernel writes lies in a vector. Every launch waits
/// for the device. Schedules are the device's own; a loop over them is a repetition.
#pragma once

#include <cuda_runtime.h>

#include <cstddef>
#include <stdexcept>
#include <string>

namespace simt {

using ::dim3;

inline constexpr bool on_device = true;

/// The device refused a launch, or a kernel did what stopped it; then all that follows fails.
struct error : std::runtime_error {
  using runtime_error::runtime_error;
};

inline void require(cudaError_t code, const char* call) {
  if (code != cudaSuccess) throw error(std::string(call) + ": " + cudaGetErrorString(code));
}

struct settings {
  unsigned seed = 0; ///< no meaning here
};
inline settings cfg;

/// Runs kernel(arguments...) and returns when it has ended. @throw error.
template <class... P, class... Arguments>
void launch(void (*kernel)(P...), dim3 grid, dim3 block, Arguments... arguments) {
  kernel<<<grid, block>>>(arguments...);
  require(cudaGetLastError(), "a launch");
  require(cudaDeviceSynchronize(), "a kernel");
}

/// Addresses of that many bytes, of which only what is touched takes memory.
class far_memory {
public:
  explicit far_memory(std::size_t bytes) {
    if (cudaMallocManaged(&at_, bytes) != cudaSuccess) at_ = nullptr;
  }
  far_memory(const far_memory&) = delete;
  far_memory& operator=(const far_memory&) = delete;
  ~far_memory() { static_cast<void>(cudaFree(at_)); }
  [[nodiscard]] void* data() const { return at_; } ///< null: not to be had

private:
  void* at_ = nullptr;
};

} // namespace simt
