// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// What the executor tells ThreadSanitizer and AddressSanitizer about its fibers; nothing in builds without them.
///
/// To ThreadSanitizer each CUDA thread is a thread of its own, ordered with others by barriers alone. The executor's
/// own bookkeeping, which all fibers share, must not be seen: DPOPT_SIMT_UNSEEN marks every function that touches it.
#pragma once

#include <cstddef>

#if defined(__SANITIZE_THREAD__)
#define DPOPT_SIMT_TSAN 1
#elif defined(__SANITIZE_ADDRESS__)
#define DPOPT_SIMT_ASAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define DPOPT_SIMT_TSAN 1
#elif __has_feature(address_sanitizer)
#define DPOPT_SIMT_ASAN 1
#endif
#endif

#if defined(DPOPT_SIMT_TSAN)
#define DPOPT_SIMT_UNSEEN __attribute__((no_sanitize("thread"), noinline))
extern "C" {
void* __tsan_get_current_fiber();
void* __tsan_create_fiber(unsigned flags);
void __tsan_switch_to_fiber(void* fiber, unsigned flags);
void __tsan_acquire(void* address);
void __tsan_release(void* address);
}
#else
#define DPOPT_SIMT_UNSEEN __attribute__((noinline))
#endif

#if defined(DPOPT_SIMT_ASAN)
extern "C" {
void __sanitizer_start_switch_fiber(void** save, const void* bottom, std::size_t size);
void __sanitizer_finish_switch_fiber(void* save, const void** old_bottom, std::size_t* old_size);
void __asan_poison_memory_region(const volatile void* address, std::size_t size);
void __asan_unpoison_memory_region(const volatile void* address, std::size_t size);
}
#endif

namespace simt::sanitizer {

#if defined(DPOPT_SIMT_TSAN)
inline constexpr bool sees_threads = true;
DPOPT_SIMT_UNSEEN inline void* current_thread() { return __tsan_get_current_fiber(); }
DPOPT_SIMT_UNSEEN inline void* new_thread() { return __tsan_create_fiber(0); }
__attribute__((always_inline)) inline void switch_thread(void* t) { __tsan_switch_to_fiber(t, 1); } // 1: orders nothing
DPOPT_SIMT_UNSEEN inline void acquire(void* at) { __tsan_acquire(at); }
DPOPT_SIMT_UNSEEN inline void release(void* at) { __tsan_release(at); }
#else
inline constexpr bool sees_threads = false;
inline void* current_thread() { return nullptr; }
inline void* new_thread() { return nullptr; }
inline void switch_thread(void*) {}
inline void acquire(void*) {}
inline void release(void*) {}
#endif

#if defined(DPOPT_SIMT_ASAN)
inline constexpr bool sees_memory = true;
inline void leave_stack(void** save, const void* bottom, std::size_t size) {
  __sanitizer_start_switch_fiber(save, bottom, size);
}
inline void enter_stack(void* saved, const void** old_bottom, std::size_t* old_size) {
  __sanitizer_finish_switch_fiber(saved, old_bottom, old_size);
}
inline void forbid(const void* p, std::size_t n) { __asan_poison_memory_region(p, n); }
inline void allow(const void* p, std::size_t n) { __asan_unpoison_memory_region(p, n); }
#else
inline constexpr bool sees_memory = false;
inline void leave_stack(void**, const void*, std::size_t) {}
inline void enter_stack(void*, const void**, std::size_t*) {}
inline void forbid(const void*, std::size_t) {}
inline void allow(const void*, std::size_t) {}
#endif

} // namespace simt::sanitizer
