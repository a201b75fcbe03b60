// Host SIMT executor: runs CUDA-dialect kernels on CPU fibers, warp size 32, one OS thread, deterministic.
// Checks: barrier divergence, exited threads at a barrier, warp-op mask mistakes, deadlock; with -fsanitize=thread
// data races between CUDA threads (barrier-aware, in and across blocks); with -fsanitize=address out of bounds.
#pragma once
#define DPOPT_SIMT_EXECUTOR 1
#include <ucontext.h>
#include <sys/mman.h>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <stdexcept>
#include <string>
#include <tuple>
#include <utility>
#include <vector>
#include <cmath>
#ifndef __has_feature
#define __has_feature(x) 0
#endif
#if defined(__SANITIZE_THREAD__) || __has_feature(thread_sanitizer)
extern "C" { void* __tsan_get_current_fiber(); void* __tsan_create_fiber(unsigned); void __tsan_destroy_fiber(void*); void __tsan_switch_to_fiber(void*, unsigned); void __tsan_acquire(void*); void __tsan_release(void*); }
#define SIMT_TSAN 1
#define SIMT_NOTSAN __attribute__((no_sanitize("thread"), noinline))
#else
#define SIMT_TSAN 0
#define SIMT_NOTSAN __attribute__((noinline))
inline void __tsan_acquire(void*) {} inline void __tsan_release(void*) {}
#endif
#if defined(__SANITIZE_ADDRESS__) || __has_feature(address_sanitizer)
extern "C" { void __sanitizer_start_switch_fiber(void**, const void*, size_t); void __sanitizer_finish_switch_fiber(void*, const void**, size_t*); void __asan_poison_memory_region(const volatile void*, size_t); void __asan_unpoison_memory_region(const volatile void*, size_t); }
#define SIMT_ASAN 1
#else
#define SIMT_ASAN 0
#endif
namespace simt {
struct dim3 { unsigned x, y, z; constexpr dim3(unsigned x_ = 1, unsigned y_ = 1, unsigned z_ = 1) : x(x_), y(y_), z(z_) {} };
struct error : std::runtime_error { using runtime_error::runtime_error; };
enum class St : uint8_t { ready, block, warp, exited };
struct Fiber {
  ucontext_t ctx; char* stack; void* tsan; void* fake; dim3 tid; unsigned lin; St st; const void* site; uint32_t mask; int op; uint64_t val[2];
};
constexpr size_t stack_bytes = 128 * 1024;
struct Cfg { unsigned seed = 0; bool strict = true; size_t max_shared = 48 * 1024; };
inline Cfg cfg;
struct Slot { const void* key; void* p; };
struct Grid {
  dim3 g, b, bid; unsigned n = 0, live = 0; Fiber* f = nullptr; Fiber* cur = nullptr; ucontext_t main; void* main_tsan = nullptr; void* main_fake = nullptr;
  const void* main_bot = nullptr; size_t main_sz = 0;
  void (*call)(void*) = nullptr; void* arg = nullptr; Slot shared[64]; unsigned nshared = 0; char* arena = nullptr; std::vector<char*> arenas; std::vector<void*> dead; size_t shared_used = 0; char launch_s, done_s; std::string fail; unsigned rng = 1;
  unsigned long barriers = 0, warpops = 0;
};
inline Grid* G = nullptr;
SIMT_NOTSAN inline void* sync_obj(unsigned i) { return G->arena + 2 * cfg.max_shared + 16 * i; }   // fresh per block under TSan: blocks get no order
SIMT_NOTSAN inline void to_main() {
  Fiber* c = G->cur;
#if SIMT_ASAN
  __sanitizer_start_switch_fiber(c->st == St::exited ? nullptr : &c->fake, G->main_bot, G->main_sz);
#endif
#if SIMT_TSAN
  __tsan_switch_to_fiber(G->main_tsan, 1);
#endif
  swapcontext(&c->ctx, &G->main);
#if SIMT_ASAN
  __sanitizer_finish_switch_fiber(c->fake, &G->main_bot, &G->main_sz);
#endif
}
SIMT_NOTSAN inline void to_fiber(Fiber* f) {
  G->cur = f;
#if SIMT_ASAN
  __sanitizer_start_switch_fiber(&G->main_fake, f->stack, stack_bytes);
#endif
#if SIMT_TSAN
  __tsan_switch_to_fiber(f->tsan, 1);
#endif
  swapcontext(&G->main, &f->ctx);
#if SIMT_ASAN
  __sanitizer_finish_switch_fiber(G->main_fake, nullptr, nullptr);
#endif
}
SIMT_NOTSAN inline void entry() {
#if SIMT_ASAN
  __sanitizer_finish_switch_fiber(nullptr, &G->main_bot, &G->main_sz);
#endif
  __tsan_acquire(&G->launch_s);
  G->call(G->arg);
  __tsan_release(&G->done_s);
  G->cur->st = St::exited; --G->live; to_main();
}
SIMT_NOTSAN inline void wait(St s, const void* site, uint32_t mask, int op) { Fiber* c = G->cur; c->st = s; c->site = site; c->mask = mask; c->op = op; to_main(); }
SIMT_NOTSAN inline void set_fail(const char* m, const Fiber& f) {
  char b[256]; snprintf(b, sizeof b, "%s (block %u,%u,%u thread %u, site %p, mask %08x)", m, G->bid.x, G->bid.y, G->bid.z, f.lin, f.site, f.mask); if (G->fail.empty()) G->fail = b;
}
SIMT_NOTSAN inline bool release_waiters() {
  Grid& g = *G; bool any = false; unsigned nb = 0; const Fiber* first = nullptr; bool mixed = false;
  for (unsigned i = 0; i < g.n; ++i) if (g.f[i].st == St::block) { ++nb; if (!first) first = &g.f[i]; else if (g.f[i].site != first->site) mixed = true; }
  if (nb && nb == g.live) {
    if (cfg.strict && mixed) set_fail("__syncthreads reached at different places", *first);
    if (cfg.strict && g.live != g.n) set_fail("__syncthreads after some threads exited", *first);
    for (unsigned i = 0; i < g.n; ++i) if (g.f[i].st == St::block) g.f[i].st = St::ready;
    ++g.barriers; any = true;
  }
  for (unsigned w = 0; w * 32 < g.n; ++w) for (unsigned l = 0; l < 32 && w * 32 + l < g.n; ++l) {
    Fiber& a = g.f[w * 32 + l]; if (a.st != St::warp) continue;
    const uint32_t m = a.mask; bool all = true;
    for (unsigned k = 0; k < 32 && all; ++k) if (m >> k & 1) {
      if (w * 32 + k >= g.n) { set_fail("mask names lanes beyond the block", a); return false; }
      Fiber& o = g.f[w * 32 + k];
      if (o.st == St::exited) { set_fail("mask names a lane that has exited", a); return false; }
      if (o.st != St::warp) all = false;
      else if (o.op != a.op || o.mask != m) { set_fail("lanes of one mask are at different warp operations", a); return false; }
    }
    if (!all) continue;
    for (unsigned k = 0; k < 32; ++k) if (m >> k & 1) { Fiber& o = g.f[w * 32 + k]; o.val[1] = o.val[0]; o.st = St::ready; }
    ++g.warpops; any = true;
  }
  return any;
}
SIMT_NOTSAN inline void run_block(unsigned bx, unsigned by, unsigned bz) {
  Grid& g = *G; g.live = g.n; g.bid.x = bx; g.bid.y = by; g.bid.z = bz;
  char* stacks = static_cast<char*>(mmap(nullptr, stack_bytes * g.n, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
  if (stacks == MAP_FAILED) throw error("mmap");
  for (unsigned i = 0; i < g.n; ++i) {
    Fiber& f = g.f[i]; f.stack = stacks + stack_bytes * i; f.lin = i; f.tid = dim3(i % g.b.x, i / g.b.x % g.b.y, i / (g.b.x * g.b.y)); f.st = St::ready; f.mask = 0; f.site = nullptr; f.fake = nullptr;
    getcontext(&f.ctx); f.ctx.uc_stack.ss_sp = f.stack; f.ctx.uc_stack.ss_size = stack_bytes; f.ctx.uc_link = nullptr; makecontext(&f.ctx, entry, 0);
#if SIMT_TSAN
    f.tsan = __tsan_create_fiber(0);
#endif
  }
  g.nshared = 0; g.shared_used = 0;
  if (!g.arena || SIMT_TSAN) { g.arena = static_cast<char*>(aligned_alloc(64, 2 * cfg.max_shared + 1024)); g.arenas.push_back(g.arena); }
#if SIMT_ASAN
  __asan_unpoison_memory_region(g.arena, 2 * cfg.max_shared);
#endif
  memset(g.arena, 0xFF, 2 * cfg.max_shared);                                      // NaN-poisoned for every block
#if SIMT_ASAN
  __asan_poison_memory_region(g.arena, 2 * cfg.max_shared);
#endif
  __tsan_release(&g.launch_s);
  std::vector<unsigned> ord(g.n); for (unsigned i = 0; i < g.n; ++i) ord[i] = cfg.seed == 1 ? g.n - 1 - i : i;
  while (g.live && g.fail.empty()) {
    if (cfg.seed > 1) for (unsigned i = g.n - 1; i > 0; --i) { g.rng = g.rng * 1664525u + 1013904223u; std::swap(ord[i], ord[(g.rng >> 8) % (i + 1)]); }
    bool ran = false; for (unsigned i : ord) if (g.f[i].st == St::ready) { ran = true; to_fiber(&g.f[i]); if (!g.fail.empty()) break; }
    if (g.fail.empty() && g.live && !release_waiters() && !ran) for (unsigned i = 0; i < g.n; ++i) if (g.f[i].st != St::exited) { set_fail(g.f[i].st == St::block ? "deadlock: not all threads reach this __syncthreads" : "deadlock: not all lanes of the mask reach this warp operation", g.f[i]); break; }
  }
#if SIMT_TSAN
  for (unsigned i = 0; i < g.n; ++i) if (g.dead.size() < 6000) g.dead.push_back(g.f[i].tsan); else __tsan_destroy_fiber(g.f[i].tsan);  // a reused TSan id hides races between blocks
#endif
  munmap(stacks, stack_bytes * g.n);
}
struct Stats { unsigned long barriers, warpops; };
template <class K, class... A> Stats launch(K kern, dim3 grid, dim3 block, A... args) {
  Grid g; g.g = grid; g.b = block; g.n = block.x * block.y * block.z; g.rng = cfg.seed;
  if (g.n == 0 || g.n > 1024 || block.z > 64) throw error("bad block size"); 
  if (grid.x == 0 || grid.x > 2147483647u || grid.y > 65535 || grid.z > 65535 || grid.y == 0 || grid.z == 0) throw error("bad grid size");
  std::vector<Fiber> fs(g.n); g.f = fs.data();
  auto t = std::make_tuple(kern, args...); auto fn = [](void* p) { auto& u = *static_cast<decltype(t)*>(p); std::apply([](auto k, auto... a) { k(a...); }, u); };
  g.call = fn; g.arg = &t; G = &g;
#if SIMT_TSAN
  g.main_tsan = __tsan_get_current_fiber();
#endif
  for (unsigned z = 0; z < grid.z; ++z) for (unsigned y = 0; y < grid.y; ++y) for (unsigned x = 0; x < grid.x && g.fail.empty(); ++x) run_block(x, y, z);
  __tsan_acquire(&g.done_s);
#if SIMT_TSAN
  for (void* f : g.dead) __tsan_destroy_fiber(f);
#endif
  for (char* p : g.arenas) {
#if SIMT_ASAN
    __asan_unpoison_memory_region(p, 2 * cfg.max_shared);
#endif
    free(p);
  }
  G = nullptr; if (!g.fail.empty()) throw error(g.fail);
  return {g.barriers, g.warpops};
}
SIMT_NOTSAN inline void* shared_raw(const void* key, size_t bytes) {
  Grid& g = *G; for (unsigned i = 0; i < g.nshared; ++i) if (g.shared[i].key == key) return g.shared[i].p;
  if (g.nshared == 64 || g.shared_used + bytes > cfg.max_shared) { set_fail("more than 48 KiB (or 64 arrays) of shared memory", *g.cur); to_main(); }
  char* p = g.arena + g.shared_used + 64 * (g.nshared + 1); g.shared_used += (bytes + 63) / 64 * 64;
#if SIMT_ASAN
  __asan_unpoison_memory_region(p, bytes);
#endif
  g.shared[g.nshared].key = key; g.shared[g.nshared].p = p; ++g.nshared; return p;
}
template <class T, size_t N, class Tag> T (&shared(Tag))[N] { static const char key = 0; return *static_cast<T(*)[N]>(shared_raw(&key, sizeof(T) * N)); }
template <class T> SIMT_NOTSAN T shfl(uint32_t mask, T v, int op, int arg, int width, const void* site) {
  static_assert(sizeof(T) <= 8); Fiber* c = G->cur; const int lane = int(c->lin % 32);
  c->site = site; c->mask = mask;
  if (!(mask >> lane & 1)) { set_fail("calling lane is not in its own mask", *c); }
  c->val[0] = 0; memcpy(&c->val[0], &v, sizeof(T)); wait(St::warp, site, mask, op * 1000 + arg % 64 * 0 + width);
  int src = lane; const int base = lane / width * width, in = lane % width;
  if (op == 0) src = base + ((arg % width) + width) % width; else if (op == 1) src = in + arg < width ? lane + arg : lane; else if (op == 2) src = in - arg >= 0 ? lane - arg : lane; else src = (lane ^ arg) < base + width ? lane ^ arg : lane;
  Fiber& s = G->f[c->lin / 32 * 32 + unsigned(src)];
  if (!(mask >> src & 1)) set_fail("shuffle reads a lane outside the mask", *c);
  T r; memcpy(&r, &s.val[1], sizeof(T)); return r;
}
}  // namespace simt
#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define __restrict__ __restrict
using simt::dim3;
#define threadIdx (::simt::G->cur->tid)
#define blockIdx (::simt::G->bid)
#define blockDim (::simt::G->b)
#define gridDim (::simt::G->g)
inline constexpr int warpSize = 32;
__attribute__((noinline)) SIMT_NOTSAN inline void __syncthreads() { __tsan_release(simt::sync_obj(0)); simt::wait(simt::St::block, __builtin_return_address(0), 0, 0); __tsan_acquire(simt::sync_obj(0)); }
SIMT_NOTSAN inline void __syncwarp(uint32_t m = 0xffffffffu) { void* s = simt::sync_obj(1 + simt::G->cur->lin / 32); __tsan_release(s); simt::wait(simt::St::warp, __builtin_return_address(0), m, 9000); __tsan_acquire(s); }
// a shuffle orders no memory, so it adds no happens-before edge
template <class T> T __shfl_sync(uint32_t m, T v, int src, int w = 32) { return simt::shfl(m, v, 0, src, w, __builtin_return_address(0)); }
template <class T> T __shfl_down_sync(uint32_t m, T v, unsigned d, int w = 32) { return simt::shfl(m, v, 1, int(d), w, __builtin_return_address(0)); }
template <class T> T __shfl_up_sync(uint32_t m, T v, unsigned d, int w = 32) { return simt::shfl(m, v, 2, int(d), w, __builtin_return_address(0)); }
template <class T> T __shfl_xor_sync(uint32_t m, T v, int x, int w = 32) { return simt::shfl(m, v, 3, x, w, __builtin_return_address(0)); }
template <class T> T atomicAdd(T* p, T v) { return std::atomic_ref<T>(*p).fetch_add(v, std::memory_order_relaxed); }
