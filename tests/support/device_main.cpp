// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Catch2's main (v2 or v3) for tests of kernels on a real device, and their heap: from main on, what operator new
/// gives is managed memory, so that kernels may have the addresses of any vector. An array ends in a mark that
/// `delete` looks at: a kernel that writes behind it stops the program. (That it reads there is seen on the executor.)
///
/// Exit status 77, with a sentence, when there is no device or one whose memory both sides cannot use at once.
#if !__has_include(<catch2/catch_all.hpp>)
#define CATCH_CONFIG_RUNNER // Catch2 v2 is one header, which is told to be the library
#endif
#include "support/catch.hpp"

#include <cuda_runtime_api.h>

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <mutex>
#include <new>

namespace {

constexpr std::uint64_t mark = 0x5EA1ED0F5EA1ED0F;

/// In front of every block; as long as the alignment that operator new promises.
struct alignas(16) block_head {
  std::size_t bytes;        // that were asked for
  std::uint32_t size_class; // a block of 2^size_class bytes in all; 0: malloc's
};

struct free_block {
  free_block* next;
};

/// Blocks of powers of two, cut from large pieces of managed memory that are kept to the end.
struct managed_heap {
  std::mutex mutex;
  bool open = false;
  char* from = nullptr;
  char* to = nullptr;
  free_block* unused[64] = {};

  void* take(std::uint32_t size_class) {
    const std::lock_guard lock(mutex);
    if (free_block* const b = unused[size_class]) {
      unused[size_class] = b->next;
      return b;
    }
    const std::size_t bytes = std::size_t{1} << size_class;
    if (static_cast<std::size_t>(to - from) < bytes) {
      constexpr std::size_t least = std::size_t{64} << 20;
      const std::size_t piece = bytes > least ? bytes : least;
      void* p = nullptr;
      if (cudaMallocManaged(&p, piece, cudaMemAttachGlobal) != cudaSuccess) throw std::bad_alloc();
      from = static_cast<char*>(p);
      to = from + piece;
    }
    char* const p = from;
    from += bytes;
    return p;
  }
  void give_back(void* p, std::uint32_t size_class) {
    const std::lock_guard lock(mutex);
    unused[size_class] = ::new (p) free_block{unused[size_class]};
  }
};

constinit managed_heap heap;

} // namespace

void* operator new(std::size_t bytes) {
  const std::size_t whole = sizeof(block_head) + bytes + sizeof mark;
  const std::uint32_t size_class = heap.open ? static_cast<std::uint32_t>(std::bit_width(whole - 1)) : 0;
  void* const p = size_class == 0 ? std::malloc(whole) : heap.take(size_class);
  if (p == nullptr) throw std::bad_alloc();
  auto* const data = reinterpret_cast<char*>(::new (p) block_head{bytes, size_class} + 1);
  std::memcpy(data + bytes, &mark, sizeof mark);
  return data;
}

void operator delete(void* data) noexcept {
  if (data == nullptr) return;
  block_head* const head = static_cast<block_head*>(data) - 1;
  if (std::memcmp(static_cast<char*>(data) + head->bytes, &mark, sizeof mark) != 0) {
    std::fprintf(stderr, "something was written behind an array of %zu bytes\n", head->bytes);
    std::abort();
  }
  if (head->size_class == 0) std::free(head);
  else heap.give_back(head, head->size_class);
}
void operator delete(void* data, std::size_t) noexcept { operator delete(data); }

int main(int argc, char** argv) {
  int devices = 0;
  if (const cudaError_t code = cudaGetDeviceCount(&devices); code != cudaSuccess || devices == 0) {
    std::printf("no GPU here (%s); nothing was run on a device\n", cudaGetErrorString(code));
    return 77;
  }
  int together = 0;
  if (cudaDeviceGetAttribute(&together, cudaDevAttrConcurrentManagedAccess, 0) != cudaSuccess || together == 0) {
    std::printf("this GPU does not share managed memory with the CPU while it works; the tests need that\n");
    return 77;
  }
  heap.open = true; // not before: CUDA is not to be called while the program is still being made
  const int status = Catch::Session().run(argc, argv);
  return status;
}
