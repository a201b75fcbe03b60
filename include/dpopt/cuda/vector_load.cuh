// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Reads of 16 bytes at once, the widest that a thread can make, and how the threads of a row share it.
///
/// Contract: load_vector and store_vector need an address that is a multiple of 16; the executor of the tests refuses
/// any other, a GPU would stop with "misaligned address".
#pragma once

#include "dpopt/core/types.hpp"
#include "dpopt/cuda/dialect.cuh"

#include <cstdint>

namespace dpopt::cuda {

inline constexpr isize vector_bytes = 16;

template <class T>
inline constexpr isize per_vector = vector_bytes / static_cast<isize>(sizeof(T));

template <class T>
struct alignas(16) vector_of {
  T values[per_vector<T>];
};

[[nodiscard]] __device__ inline bool is_vector_aligned(const void* p) {
  return reinterpret_cast<std::uintptr_t>(p) % vector_bytes == 0;
}

template <class T>
[[nodiscard]] __device__ inline vector_of<T> load_vector(const T* p) {
#if defined(DPOPT_SIMT_EXECUTOR)
  ::simt::require_aligned(p, vector_bytes);
#endif
  return *reinterpret_cast<const vector_of<T>*>(p);
}

template <class T>
__device__ inline void store_vector(T* p, const vector_of<T>& x) {
#if defined(DPOPT_SIMT_EXECUTOR)
  ::simt::require_aligned(p, vector_bytes);
#endif
  *reinterpret_cast<vector_of<T>*>(p) = x;
}

/// Calls f(x[k]) for one of `lanes` equal shares of x[0, n), lanes >= 16: vectors from the first aligned element on,
/// single numbers before and behind. Together the lanes read consecutive memory. Which share an element is in depends
/// on the alignment of x.
template <class U, class F>
__device__ inline void for_share(const U* x, isize n, int lane, int lanes, F&& f) {
  const isize beyond = static_cast<isize>(reinterpret_cast<std::uintptr_t>(x) % vector_bytes);
  isize head = beyond == 0 ? 0 : (vector_bytes - beyond) / static_cast<isize>(sizeof(U));
  if (head > n) head = n;
  if (lane < head) f(x[lane]);
  const isize vectors = (n - head) / per_vector<U>;
  for (isize v = lane; v < vectors; v += lanes) {
    const vector_of<U> part = load_vector(x + head + v * per_vector<U>);
    for (isize j = 0; j < per_vector<U>; ++j) f(part.values[j]);
  }
  const isize tail = head + vectors * per_vector<U>;
  if (tail + lane < n) f(x[tail + lane]);
}

} // namespace dpopt::cuda
