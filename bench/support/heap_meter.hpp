// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Counts what operator new hands out in the whole program. Include it in ONE source file of a program: it replaces
/// the global operators. Not for programs with several threads that allocate.
#pragma once

#include <malloc.h>

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <new>

namespace bench::heap {

inline std::size_t live = 0;  ///< bytes handed out and not given back
inline std::size_t peak = 0;  ///< the most that `live` was since start()
inline std::size_t calls = 0; ///< calls of operator new

/// Begins a measurement. @return the bytes in use now.
inline std::size_t start() {
  peak = live;
  return live;
}

inline void* note(void* p) {
  if (p == nullptr) throw std::bad_alloc();
  live += malloc_usable_size(p);
  peak = std::max(peak, live);
  ++calls;
  return p;
}
inline void give_back(void* p) noexcept {
  if (p != nullptr) live -= malloc_usable_size(p);
  std::free(p);
}

} // namespace bench::heap

void* operator new(std::size_t n) { return bench::heap::note(std::malloc(n == 0 ? 1 : n)); }
void* operator new(std::size_t n, std::align_val_t a) {
  const auto to = static_cast<std::size_t>(a);
  return bench::heap::note(std::aligned_alloc(to, (n + to) / to * to));
}
void* operator new[](std::size_t n) { return operator new(n); }
void* operator new[](std::size_t n, std::align_val_t a) { return operator new(n, a); }
void operator delete(void* p) noexcept { bench::heap::give_back(p); }
void operator delete(void* p, std::size_t) noexcept { bench::heap::give_back(p); }
void operator delete(void* p, std::align_val_t) noexcept { bench::heap::give_back(p); }
void operator delete(void* p, std::size_t, std::align_val_t) noexcept { bench::heap::give_back(p); }
void operator delete[](void* p) noexcept { bench::heap::give_back(p); }
void operator delete[](void* p, std::size_t) noexcept { bench::heap::give_back(p); }
void operator delete[](void* p, std::align_val_t) noexcept { bench::heap::give_back(p); }
void operator delete[](void* p, std::size_t, std::align_val_t) noexcept { bench::heap::give_back(p); }
