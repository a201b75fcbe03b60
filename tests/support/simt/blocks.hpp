// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Runs a grid block by block: lets fibers run in the order that the seed asks for until each waits or has returned,
/// then lets go those that have all come, and refuses what a GPU would hang on or leave undefined.
#pragma once

#include "support/simt/fibers.hpp"

#include <sys/mman.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <numeric>
#include <tuple>
#include <type_traits>
#include <utility>

namespace simt {

namespace detail {

inline constexpr std::size_t gap = 64; // in front of each shared array, so that running over one is seen
inline constexpr std::size_t edge_count = 2 + 2 * most_threads;
[[nodiscard]] inline std::size_t arena_bytes() { return 2 * cfg.max_shared + 65 * gap; }

DPOPT_SIMT_UNSEEN inline bool same_place(const place& a, const place& b) {
  return a.line() == b.line() && a.column() == b.column() && std::strcmp(a.file_name(), b.file_name()) == 0;
}

/// Lets a barrier's waiters go when all have come.
DPOPT_SIMT_UNSEEN inline bool release_barrier() {
  grid_state& g = *running;
  unsigned waiting = 0;
  const fiber* first = nullptr;
  const fiber* other = nullptr;
  for (unsigned i = 0; i < g.threads; ++i) {
    const fiber& f = g.fibers[i];
    if (f.now != state::at_barrier) continue;
    ++waiting;
    if (first == nullptr) first = &f;
    else if (!same_place(f.where, first->where)) other = &f;
  }
  if (waiting == 0 || waiting != g.alive) return false;
  if (cfg.strict && other != nullptr)
    report("threads of one block wait at different __syncthreads; move it out of the branch", *other);
  if (cfg.strict && g.alive != g.threads)
    report("__syncthreads, and some threads of the block have returned; let them come too", *first);
  for (unsigned i = 0; i < g.threads; ++i)
    if (g.fibers[i].now == state::at_barrier) g.fibers[i].now = state::ready;
  ++g.barriers;
  return true;
}

/// Whether all lanes of f's mask wait at the same operation; reports masks that can never be served.
DPOPT_SIMT_UNSEEN inline bool all_lanes_here(const fiber& f) {
  grid_state& g = *running;
  const unsigned first = f.number / 32 * 32;
  bool all = true;
  for (unsigned lane = 0; lane < 32; ++lane) {
    if ((f.mask >> lane & 1u) == 0) continue;
    if (first + lane >= g.threads) return report("the mask names lanes that the block does not have", f), false;
    const fiber& o = g.fibers[first + lane];
    if (o.now == state::exited) return report("the mask names a lane that has returned", f), false;
    if (o.now != state::at_warp_operation) all = false;
    else if (o.operation != f.operation || o.mask != f.mask || !same_place(o.where, f.where))
      return report("lanes of one mask are at different warp operations or give different masks", f), false;
  }
  return all;
}

DPOPT_SIMT_UNSEEN inline bool release_warps() {
  grid_state& g = *running;
  bool any = false;
  for (unsigned i = 0; i < g.threads && g.problem[0] == 0; ++i) {
    fiber& f = g.fibers[i];
    if (f.now != state::at_warp_operation || !all_lanes_here(f)) continue;
    const std::uint32_t mask = f.mask;
    for (unsigned lane = 0; lane < 32; ++lane) {
      if ((mask >> lane & 1u) == 0) continue;
      fiber& o = g.fibers[i / 32 * 32 + lane];
      o.seen = o.offered;
      o.last_arrival = o.arrivals;
      o.now = state::ready;
    }
    ++g.warp_operations;
    any = true;
  }
  return any;
}

DPOPT_SIMT_UNSEEN inline void report_deadlock() {
  for (unsigned i = 0; i < running->threads; ++i) {
    const fiber& f = running->fibers[i];
    if (f.now == state::at_barrier) return report("deadlock: not all threads of the block come to this barrier", f);
    if (f.now == state::at_warp_operation)
      return report("deadlock: not all lanes of the mask come to this warp operation", f);
  }
}

DPOPT_SIMT_UNSEEN inline char* map_stacks(unsigned n) {
  void* const p =
      mmap(nullptr, stack_bytes * n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (p == MAP_FAILED) throw error("no memory for the stacks of a block");
  return static_cast<char*>(p);
}

/// Stacks of a block's fibers, kept for the next launch. Functions that never returned leave marks for
/// AddressSanitizer: near the top always, anywhere once a launch was stopped.
struct kept_stacks {
  char* at = nullptr;
  unsigned count = 0;
  bool stopped = false;

  DPOPT_SIMT_UNSEEN char* take(unsigned n) {
    if (n > count) {
      if (at != nullptr) munmap(at, stack_bytes * count);
      count = 0;
      at = map_stacks(n);
      count = n;
      stopped = true; // whatever was there before
    }
    constexpr std::size_t top = 4096;
    if (std::exchange(stopped, false)) sanitizer::allow(at, stack_bytes * count);
    else
      for (unsigned i = 1; i <= n; ++i) sanitizer::allow(at + stack_bytes * i - top, top);
    return at;
  }
};
inline kept_stacks stacks;

/// Sets all bits of memory in whole gaps. Word by word: memset is seen by ThreadSanitizer, as a write by who calls it.
DPOPT_SIMT_UNSEEN inline void fill_shared(char* p, std::size_t bytes) {
  for (std::size_t i = 0; i < bytes; i += sizeof(std::uint64_t))
    *reinterpret_cast<volatile std::uint64_t*>(p + i) = ~std::uint64_t{0};
}

/// What a block has of its own.
struct kept_block {
  std::unique_ptr<char, void (*)(void*)> arena{nullptr, std::free};
  std::size_t bytes = 0;
  std::array<std::uint64_t, edge_count> edges{};
};
inline std::vector<std::unique_ptr<kept_block>> kept_blocks;

/// Launches are ordered and use the same blocks again, which are costly to make. Under ThreadSanitizer each block of a
/// launch has memory and edges of its own, or it would be ordered with the one before.
DPOPT_SIMT_UNSEEN inline kept_block& take_block() {
  std::size_t& at = running->blocks_used;
  if (sanitizer::sees_threads || at == 0) ++at;
  if (at > kept_blocks.size()) kept_blocks.push_back(std::make_unique<kept_block>());
  kept_block& own = *kept_blocks[at - 1];
  if (own.bytes < arena_bytes()) {
    own.bytes = arena_bytes();
    own.arena.reset(static_cast<char*>(std::aligned_alloc(gap, (own.bytes + gap - 1) / gap * gap)));
    if (own.arena == nullptr) throw error("no memory for the shared arrays of a block");
  }
  return own;
}

/// Shared memory is NaN, or -1, until it is written (shared_at()): what an earlier block left is never seen.
DPOPT_SIMT_UNSEEN inline void prepare_memory() {
  grid_state& g = *running;
  if (!sanitizer::sees_threads) g.stacks = stacks.take(g.threads);
  kept_block& own = take_block();
  g.arena = own.arena.get();
  g.edges = own.edges.data();
  g.shared_arrays = 0;
  g.shared_used = 0;
  sanitizer::allow(g.arena, arena_bytes());
  fill_shared(g.arena, gap);
  sanitizer::forbid(g.arena, arena_bytes());
}

/// Stops the launch when a block has written between its shared arrays, as with a pointer into one of them.
/// AddressSanitizer sees it by itself, and which thread it was.
DPOPT_SIMT_UNSEEN inline void check_gaps() {
  grid_state& g = *running;
  if (sanitizer::sees_memory || sanitizer::sees_threads || g.problem[0] != 0) return;
  const char* at = g.arena;
  const auto is_untouched = [](char c) { return c == '\xFF'; };
  for (unsigned i = 0; i <= g.shared_arrays; ++i) {
    const bool last = i == g.shared_arrays;
    const char* const next = last ? at + gap : static_cast<const char*>(g.shared[i].at);
    if (!std::all_of(at, next, is_untouched))
      std::snprintf(g.problem, sizeof g.problem,
                    "something was written in front of or behind a shared array (block %u)", g.block_index.x);
    if (!last) at = next + g.shared[i].bytes;
  }
}

struct kept_thread {
  void* thread;
  char* stack;
};

/// For ThreadSanitizer: a thread, with its stack. Launches are ordered anyway and share threads, which are costly to
/// make and to have. Within a launch one that is used again is ordered with itself, which hides what it does in both
/// blocks: those are most_kept / (threads of a block) apart, so that races of neighbours are seen, of two blocks or of
/// many.
DPOPT_SIMT_UNSEEN inline void take_thread(fiber& f) {
  constexpr std::size_t most_kept = 2 * most_threads;
  static std::vector<kept_thread> kept;
  const std::size_t at = running->threads_used++ % most_kept;
  if (at == kept.size()) kept.push_back({sanitizer::new_thread(), map_stacks(1)});
  f.thread = kept[at].thread;
  f.stack = kept[at].stack;
}

DPOPT_SIMT_UNSEEN inline void prepare_fiber(unsigned i) {
  grid_state& g = *running;
  fiber& f = g.fibers[i];
  f = fiber{};
  if (sanitizer::sees_threads) take_thread(f);
  else f.stack = g.stacks + stack_bytes * i;
  f.number = i;
  f.index = dim3(i % g.block.x, i / g.block.x % g.block.y, i / (g.block.x * g.block.y));
  getcontext(&f.context);
  f.context.uc_stack.ss_sp = f.stack;
  f.context.uc_stack.ss_size = stack_bytes;
  f.context.uc_link = nullptr;
  makecontext(&f.context, fiber_main, 0);
}

/// A fiber of a launch that was stopped is not heard of again: what it did was before what the host does next.
DPOPT_SIMT_UNSEEN inline void leave_unfinished(const fiber& f) {
  if (!sanitizer::sees_threads) return;
  sanitizer::switch_thread(f.thread);
  sanitizer::release(&running->end);
  sanitizer::switch_thread(running->scheduler_thread);
}

DPOPT_SIMT_UNSEEN inline void shuffle(std::vector<unsigned>& order) {
  for (std::size_t i = order.size() - 1; i > 0; --i) {
    running->random = running->random * 1664525u + 1013904223u;
    std::swap(order[i], order[(running->random >> 8) % (i + 1)]);
  }
}

DPOPT_SIMT_UNSEEN inline void run_block(dim3 index) {
  grid_state& g = *running;
  g.block_index = index;
  g.alive = g.threads;
  prepare_memory();
  for (unsigned i = 0; i < g.threads; ++i) prepare_fiber(i);
  sanitizer::release(&g.begin);
  std::vector<unsigned> order(g.threads);
  for (unsigned i = 0; i < g.threads; ++i) order[i] = cfg.seed == 1 ? g.threads - 1 - i : i;
  while (g.alive > 0 && g.problem[0] == 0) {
    if (cfg.seed > 1 && cfg.seed != 3) shuffle(order);
    bool ran = false;
    unsigned warp = 0; // the one that goes first under seed 3
    for (const unsigned i : order) {
      if (g.fibers[i].now != state::ready || (cfg.seed == 3 && ran && i / 32 != warp)) continue;
      ran = true;
      warp = i / 32;
      to_fiber(g.fibers[i]);
      if (g.problem[0] != 0) break;
    }
    if (g.problem[0] != 0 || g.alive == 0) break;
    const bool barrier = release_barrier();
    const bool warps = release_warps();
    if (!barrier && !warps && !ran) report_deadlock();
  }
  check_gaps();
  for (unsigned i = 0; i < g.threads; ++i)
    if (g.fibers[i].now != state::exited) leave_unfinished(g.fibers[i]);
}

DPOPT_SIMT_UNSEEN inline void run_grid() {
  grid_state& g = *running;
  g.scheduler_thread = sanitizer::current_thread();
  const unsigned long blocks = static_cast<unsigned long>(g.grid.x) * g.grid.y * g.grid.z;
  for (unsigned long b = 0; b < blocks && g.problem[0] == 0; ++b) {
    const unsigned long at = cfg.seed == 1 ? blocks - 1 - b : b;
    run_block(dim3(static_cast<unsigned>(at % g.grid.x), static_cast<unsigned>(at / g.grid.x % g.grid.y),
                   static_cast<unsigned>(at / g.grid.x / g.grid.y)));
  }
  sanitizer::acquire(&g.end);
  if (g.problem[0] != 0) stacks.stopped = true;
  for (const auto& own : kept_blocks) sanitizer::allow(own->arena.get(), own->bytes);
  constexpr std::size_t most_kept = 256;
  if (kept_blocks.size() > most_kept) kept_blocks.resize(most_kept);
}

} // namespace detail

/// What a launch did.
struct counts {
  unsigned long barriers;
  unsigned long warpops;
};

/// Runs kernel(arguments...) for every thread of the grid and returns when all have returned. Arguments are copied, as
/// CUDA does. @throw error on sizes that CUDA refuses and on what the kernel does wrong; not from within a kernel.
template <class Kernel, class... Arguments>
counts launch(Kernel kernel, dim3 grid, dim3 block, Arguments... arguments) {
  static_assert((std::is_trivially_copyable_v<Arguments> && ...), "kernels take trivially copyable arguments");
  if (running != nullptr) throw error("a launch within a launch");
  if (block.x == 0 || block.y == 0 || block.z == 0 || block.z > 64 || block.x > most_threads ||
      block.y > most_threads || block.x * block.y * block.z > most_threads)
    throw error("a block has 1 to 1024 threads, at most 64 of them along z");
  if (grid.x == 0 || grid.y == 0 || grid.z == 0 || grid.x > 2147483647u || grid.y > 65535u || grid.z > 65535u)
    throw error("a grid has at least one block, fewer than 2^31 of them along x and 2^16 along y and z");
  grid_state g;
  g.grid = grid;
  g.block = block;
  g.threads = block.x * block.y * block.z;
  g.random = cfg.seed;
  std::vector<fiber> fibers(g.threads);
  g.fibers = fibers.data();
  auto all = std::make_tuple(kernel, arguments...);
  g.arguments = &all;
  g.call = [](void* p) { std::apply([](auto k, const auto&... a) { k(a...); }, *static_cast<decltype(all)*>(p)); };
  running = &g;
  try {
    detail::run_grid();
  } catch (...) {
    running = nullptr;
    throw;
  }
  running = nullptr;
  if (g.problem[0] != 0) throw error(g.problem);
  return {g.barriers, g.warp_operations};
}

} // namespace simt
