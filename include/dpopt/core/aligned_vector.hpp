// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// A vector that starts at a cache line: a register of AVX-512 that is stored across two lines takes twice the time,
/// and std::allocator gives what is large 16 bytes behind one.
#pragma once

#include <cstddef>
#include <new>
#include <vector>

namespace dpopt {

template <class T>
struct cache_line_allocator {
  using value_type = T;
  static constexpr std::align_val_t line{64};

  cache_line_allocator() = default;
  template <class U>
  constexpr cache_line_allocator(const cache_line_allocator<U>& /*other*/) noexcept {}

  [[nodiscard]] T* allocate(std::size_t n) {
    if (n > static_cast<std::size_t>(-1) / sizeof(T)) throw std::bad_array_new_length();
    return static_cast<T*>(::operator new(n * sizeof(T), line));
  }
  void deallocate(T* p, std::size_t /*n*/) noexcept { ::operator delete(p, line); }

  friend constexpr bool operator==(const cache_line_allocator&, const cache_line_allocator&) noexcept { return true; }
};

template <class T>
using aligned_vector = std::vector<T, cache_line_allocator<T>>;

} // namespace dpopt
