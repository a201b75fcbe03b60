// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// CUDA threads as fibers of one thread of the operating system: what is known of each, and the two switches, from the
/// scheduler to a fiber and back.
#pragma once

#include "support/simt/sanitizers.hpp"

#include <ucontext.h>

#include <cstddef>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <source_location>
#include <stdexcept>
#include <string>
#include <vector>

namespace simt {

/// As CUDA's.
struct dim3 {
  unsigned x, y, z;
  constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {}
};

/// A kernel broke a rule: thrown by launch() once the kernel has been stopped.
struct error : std::runtime_error {
  using runtime_error::runtime_error;
};

using place = std::source_location;

enum class state : std::uint8_t { ready, at_barrier, at_warp_operation, exited };

/// One CUDA thread.
struct fiber {
  ucontext_t context = {};
  char* stack = nullptr;
  void* thread = nullptr;     // ThreadSanitizer's
  void* fake_stack = nullptr; // AddressSanitizer's
  dim3 index;
  unsigned number = 0; // in the block
  state now = state::ready;
  place where;                  // of the operation it waits at
  std::uint32_t mask = 0;       // of that operation, when it is a warp's
  int operation = 0;            // which one
  std::uint64_t offered = 0;    // to the other lanes
  std::uint64_t seen = 0;       // what the others read, from when all have come until all have come again
  unsigned barriers_passed = 0; // of the block
  unsigned arrivals = 0;        // at __syncwarp
  unsigned last_arrival = 0;    // the one it was let go from
};

inline constexpr std::size_t stack_bytes = 128 * 1024;
inline constexpr unsigned most_threads = 1024;

/// Settings of the launches that follow.
struct settings {
  /// Order of threads: 0 theirs; 1 the reverse, blocks too; 3 one warp as far as it comes, then the next; others: a
  /// random one in each round.
  unsigned seed = 0;
  bool strict = true; ///< also refuses barriers at different places, and barriers after threads have returned
  std::size_t max_shared = 48 * 1024; ///< bytes a block
};
inline settings cfg;

struct shared_array_slot {
  const void* key;
  void* at;
  std::size_t bytes;
};

/// A launch that is under way.
struct grid_state {
  dim3 grid, block, block_index;
  unsigned threads = 0, alive = 0;
  fiber* fibers = nullptr;
  fiber* current = nullptr;
  ucontext_t scheduler = {};
  void* scheduler_thread = nullptr;
  void* scheduler_fake_stack = nullptr;
  const void* scheduler_stack = nullptr;
  std::size_t scheduler_stack_size = 0;
  void (*call)(void*) = nullptr;
  void* arguments = nullptr;
  shared_array_slot shared[64] = {};
  unsigned shared_arrays = 0;
  std::size_t shared_used = 0;
  char* arena = nullptr;          // of this block's shared memory
  std::uint64_t* edges = nullptr; // addresses that stand for what orders memory within this block
  char* stacks = nullptr;
  std::size_t blocks_used = 0, threads_used = 0; // of those that are kept for the next launch
  char begin = 0, end = 0;                       // addresses that order memory between host and kernel
  char problem[512] = {};
  unsigned random = 1;
  unsigned long barriers = 0, warp_operations = 0;
};
inline grid_state* running = nullptr;

/// Keeps the first problem.
DPOPT_SIMT_UNSEEN inline void report(const char* what, const fiber& f) {
  grid_state& g = *running;
  if (g.problem[0] != 0) return;
  char place_text[256] = {};
  if (f.where.line() != 0) std::snprintf(place_text, sizeof place_text, "%s:%u: ", f.where.file_name(), f.where.line());
  std::snprintf(g.problem, sizeof g.problem, "%s%s (block %u,%u,%u, thread %u, mask %08x)", place_text, what,
                g.block_index.x, g.block_index.y, g.block_index.z, f.number, f.mask);
}

/// From the current fiber; comes back when the scheduler chooses it again.
DPOPT_SIMT_UNSEEN inline void to_scheduler() {
  grid_state& g = *running;
  fiber& f = *g.current;
  sanitizer::leave_stack(f.now == state::exited ? nullptr : &f.fake_stack, g.scheduler_stack, g.scheduler_stack_size);
  sanitizer::switch_thread(g.scheduler_thread);
  swapcontext(&f.context, &g.scheduler);
  sanitizer::enter_stack(f.fake_stack, &running->scheduler_stack, &running->scheduler_stack_size);
}

DPOPT_SIMT_UNSEEN inline void to_fiber(fiber& f) {
  grid_state& g = *running;
  g.current = &f;
  sanitizer::leave_stack(&g.scheduler_fake_stack, f.stack, stack_bytes);
  sanitizer::switch_thread(f.thread);
  swapcontext(&g.scheduler, &f.context);
  sanitizer::enter_stack(running->scheduler_fake_stack, nullptr, nullptr);
}

/// Where every fiber begins.
DPOPT_SIMT_UNSEEN inline void fiber_main() {
  grid_state& g = *running;
  sanitizer::enter_stack(nullptr, &g.scheduler_stack, &g.scheduler_stack_size);
  sanitizer::acquire(&g.begin);
  g.call(g.arguments);
  sanitizer::release(&g.end);
  g.current->now = state::exited;
  --g.alive;
  to_scheduler();
}

/// The current fiber waits until the scheduler finds that it may go on.
DPOPT_SIMT_UNSEEN inline void wait(state what, place where, std::uint32_t mask, int operation) {
  fiber& f = *running->current;
  f.now = what;
  f.where = where;
  f.mask = mask;
  f.operation = operation;
  to_scheduler();
}

/// Ends the launch with an error that names the current thread. Does not return.
[[noreturn]] DPOPT_SIMT_UNSEEN inline void give_up(const char* what, place where) {
  fiber& f = *running->current;
  f.where = where;
  report(what, f);
  to_scheduler(); // which stops there
  std::abort();
}

} // namespace simt
