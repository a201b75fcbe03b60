// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// More addresses than there is memory, for kernels whose indices need 64 bits.
#pragma once

#include <sys/mman.h>

#include <cstddef>

namespace simt {

/// Addresses of that many bytes, of which only what is touched takes memory.
class far_memory {
public:
  explicit far_memory(std::size_t bytes)
      : bytes_(bytes),
        at_(mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)) {}
  far_memory(const far_memory&) = delete;
  far_memory& operator=(const far_memory&) = delete;
  ~far_memory() {
    if (data() != nullptr) munmap(at_, bytes_);
  }
  [[nodiscard]] void* data() const { return at_ == MAP_FAILED ? nullptr : at_; } ///< null: not to be had

private:
  std::size_t bytes_;
  void* at_;
};

} // namespace simt
