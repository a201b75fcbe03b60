// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Sums of squares of rows of floats, for what vectorized() calls with a width; as core/vector_operations.hpp for one
/// operation, and a header in which compilers differ, too.
#pragma once

#include "dpopt/core/platform.hpp"
#include "dpopt/core/vector_operations.hpp"

#include <cstddef>
#include <cstring>

namespace dpopt {

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__CUDACC__)

namespace detail {

/// sums += x[k]^2 for four floats, in double.
DPOPT_TARGET_AVX2 DPOPT_FORCE_INLINE inline void add_squares(const float* x,
                                                             vector_of<double, 32>::type& sums) noexcept {
  DPOPT_NO_CONTRACT_BLOCK
  vector_of<float, 16>::type part;
  std::memcpy(&part, x, 16);
#if defined(__clang__)
  const auto wide = __builtin_convertvector(part, vector_of<double, 32>::type);
#else
  const vector_of<double, 32>::type wide = __builtin_ia32_cvtps2pd256(part); // reads memory, as nothing else does
#endif
  sums += wide * wide;
}

/// sums = the four chains of n numbers, in double: number k goes to chain k mod 16, and the 16 are added up to four.
/// Numbers beyond a multiple of four are squared where they are: through memory they would wait for each other.
DPOPT_TARGET_AVX2 DPOPT_FORCE_INLINE inline void add_chains(const float* x, std::ptrdiff_t n,
                                                            vector_of<double, 32>::type& sums) noexcept {
  DPOPT_NO_CONTRACT_BLOCK
  using four = vector_of<double, 32>::type;
  four a = {}, b = {}, c = {}, d = {};
  std::ptrdiff_t k = 0;
  for (; k + 16 <= n; k += 16) {
    add_squares(x + k, a);
    add_squares(x + k + 4, b);
    add_squares(x + k + 8, c);
    add_squares(x + k + 12, d);
  }
  if (const std::ptrdiff_t left = n - k; left > 0) {
    if (left >= 4) add_squares(x + k, a);
    if (left >= 8) add_squares(x + k + 4, b);
    if (left >= 12) add_squares(x + k + 8, c);
    if (const std::ptrdiff_t last = n - left % 4; last < n) {
      four rest = {static_cast<double>(x[last]), 0, 0, 0};
      if (last + 1 < n) rest[1] = static_cast<double>(x[last + 1]);
      if (last + 2 < n) rest[2] = static_cast<double>(x[last + 2]);
      rest *= rest;
      if (left < 4) a += rest;
      else if (left < 8) b += rest;
      else if (left < 12) c += rest;
      else d += rest;
    }
  }
  sums = (a + b) + (c + d);
}

/// out[i] = (x[i][0] + x[i][2]) + (x[i][1] + x[i][3]) for four x.
DPOPT_TARGET_AVX2 DPOPT_FORCE_INLINE inline void add_up_chains(const vector_of<double, 32>::type* x,
                                                               double* out) noexcept {
  using four = vector_of<double, 32>::type;
  const four even_of_two = __builtin_shufflevector(x[0], x[1], 0, 4, 2, 6);
  const four odd_of_two = __builtin_shufflevector(x[0], x[1], 1, 5, 3, 7);
  const four even_of_next = __builtin_shufflevector(x[2], x[3], 0, 4, 2, 6);
  const four odd_of_next = __builtin_shufflevector(x[2], x[3], 1, 5, 3, 7);
  const four even = __builtin_shufflevector(even_of_two, even_of_next, 0, 1, 4, 5) +
                    __builtin_shufflevector(even_of_two, even_of_next, 2, 3, 6, 7);
  const four odd = __builtin_shufflevector(odd_of_two, odd_of_next, 0, 1, 4, 5) +
                   __builtin_shufflevector(odd_of_two, odd_of_next, 2, 3, 6, 7);
  const four sums = even + odd;
  std::memcpy(out, &sums, sizeof sums);
}

} // namespace detail

/// out[i] = the sum of squares of the n numbers of row i, in double: number k goes to chain k mod 16, and the chains
/// are added up in pairs, for several rows at once: for short ones that takes longer than their squares. Not for many
/// rows: the more is written in between, the slower rows come from memory. Why not a loop: GCC loads and takes apart
/// whole vectors where each conversion could read its own four numbers, which halves the speed. The conversions are the
/// limit, also of wider vectors.
DPOPT_TARGET_AVX2 DPOPT_HOT inline void square_sums(const float* rows, std::ptrdiff_t stride, std::ptrdiff_t count,
                                                    std::ptrdiff_t n, double* out,
                                                    vector_bytes<32> /*width*/) noexcept {
  constexpr std::ptrdiff_t together = 8;
  detail::vector_of<double, 32>::type chains[together];
  for (std::ptrdiff_t first = 0; first < count; first += together) {
    const std::ptrdiff_t part = count - first < together ? count - first : together;
    for (std::ptrdiff_t i = 0; i < part; ++i) detail::add_chains(rows + (first + i) * stride, n, chains[i]);
    std::ptrdiff_t i = 0;
    for (; i + 4 <= part; i += 4) detail::add_up_chains(chains + i, out + first + i);
    for (; i < part; ++i) out[first + i] = (chains[i][0] + chains[i][2]) + (chains[i][1] + chains[i][3]);
  }
}

DPOPT_TARGET_AVX512 inline void square_sums(const float* rows, std::ptrdiff_t stride, std::ptrdiff_t count,
                                            std::ptrdiff_t n, double* out, vector_bytes<64> /*width*/) noexcept {
  square_sums(rows, stride, count, n, out, vector_bytes<32>{});
}

#endif

} // namespace dpopt
