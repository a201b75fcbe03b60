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

} // namespace detail

/// out[i] = the sum of squares of the n numbers of row i, in double: number k goes to chain k mod 16, and the chains
/// are added up in pairs. Why not a loop: GCC loads and takes apart whole vectors where each conversion could read its
/// own four numbers, which halves the speed. The conversions are the limit, also of wider vectors.
DPOPT_TARGET_AVX2 DPOPT_HOT inline void square_sums(const float* rows, std::ptrdiff_t stride, std::ptrdiff_t count,
                                                    std::ptrdiff_t n, double* out,
                                                    vector_bytes<32> /*width*/) noexcept {
  DPOPT_NO_CONTRACT_BLOCK
  using four = detail::vector_of<double, 32>::type;
  for (std::ptrdiff_t i = 0; i < count; ++i) {
    const float* const x = rows + i * stride;
    four a = {}, b = {}, c = {}, d = {};
    std::ptrdiff_t k = 0;
    for (; k + 16 <= n; k += 16) {
      detail::add_squares(x + k, a);
      detail::add_squares(x + k + 4, b);
      detail::add_squares(x + k + 8, c);
      detail::add_squares(x + k + 12, d);
    }
    if (k < n) { // zeros change no chain
      float rest[16] = {};
      std::memcpy(rest, x + k, static_cast<std::size_t>(n - k) * sizeof(float));
      detail::add_squares(rest, a);
      detail::add_squares(rest + 4, b);
      detail::add_squares(rest + 8, c);
      detail::add_squares(rest + 12, d);
    }
    a = (a + b) + (c + d);
    out[i] = (a[0] + a[2]) + (a[1] + a[3]);
  }
}

DPOPT_TARGET_AVX512 inline void square_sums(const float* rows, std::ptrdiff_t stride, std::ptrdiff_t count,
                                            std::ptrdiff_t n, double* out, vector_bytes<64> /*width*/) noexcept {
  square_sums(rows, stride, count, n, out, vector_bytes<32>{});
}

#endif

} // namespace dpopt
