// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Weighted sums of many short rows: what a row costs beside its numbers counts most there.
#pragma once

#include "dpopt/core/platform.hpp"
#include "dpopt/core/types.hpp"
#include "dpopt/core/vector_operations.hpp"
#include "dpopt/gradients/per_sample_gradients.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <limits>

namespace dpopt::detail {

/// Rows up to this many bytes are summed column by column. Longer ones are faster four at a time, where they lie.
inline constexpr isize short_row = 512;

/// scales[i] = rounded_down(factors[i]). True when a factor may be 0. A loop without branches, and the exact one only
/// where a factor needs it.
template <std::floating_point T>
DPOPT_FORCE_INLINE inline bool round_all_down(const double* factors, isize n, T* scales) noexcept {
  DPOPT_NO_CONTRACT_BLOCK
  int unusual = 0;
  for (isize i = 0; i < n; ++i) {
    scales[i] = static_cast<T>(factors[i] * room_for_roundings<T>);
    const T magnitude = std::abs(scales[i]);
    unusual += static_cast<int>(magnitude < std::numeric_limits<T>::min()) |
               static_cast<int>(magnitude > std::numeric_limits<T>::max());
  }
  if (unusual > 0)
    for (isize i = 0; i < n; ++i) scales[i] = rounded_down<T>(factors[i]);
  return unusual > 0;
}

/// Sums of the columns of four vectors, in registers. Written out: g++ 12 keeps an array of them in memory.
template <std::floating_point T, std::size_t Bytes>
struct four_vectors {
  static constexpr auto lanes = static_cast<isize>(Bytes / sizeof(T));
  wide<T, Bytes> a, b, c, d;

  DPOPT_FORCE_INLINE void load(const T* from) noexcept {
    std::memcpy(&a, from, Bytes);
    std::memcpy(&b, from + lanes, Bytes);
    std::memcpy(&c, from + 2 * lanes, Bytes);
    std::memcpy(&d, from + 3 * lanes, Bytes);
  }
  DPOPT_FORCE_INLINE void store(T* to) const noexcept {
    std::memcpy(to, &a, Bytes);
    std::memcpy(to + lanes, &b, Bytes);
    std::memcpy(to + 2 * lanes, &c, Bytes);
    std::memcpy(to + 3 * lanes, &d, Bytes);
  }
  DPOPT_FORCE_INLINE void add(const T* row, T scale) noexcept {
    DPOPT_NO_CONTRACT_BLOCK
    four_vectors numbers;
    numbers.load(row);
    a += scale * numbers.a;
    b += scale * numbers.b;
    c += scale * numbers.c;
    d += scale * numbers.d;
  }
};

/// out[k] += scales[i] * rows[i * stride + k] for `count` rows in their order and all columns k of four or eight
/// vectors.
template <isize Vectors, std::floating_point T, std::size_t Bytes>
DPOPT_FORCE_INLINE inline void add_vectors(vector_bytes<Bytes> /*width*/, const T* rows, isize stride, const T* scales,
                                           isize count, T* out) noexcept {
  static_assert(Vectors == 4 || Vectors == 8);
  constexpr isize half = 4 * four_vectors<T, Bytes>::lanes;
  four_vectors<T, Bytes> first, second;
  first.load(out);
  if constexpr (Vectors == 8) second.load(out + half);
  for (isize i = 0; i < count; ++i, rows += stride) {
    first.add(rows, scales[i]);
    if constexpr (Vectors == 8) second.add(rows + half, scales[i]);
  }
  first.store(out);
  if constexpr (Vectors == 8) second.store(out + half);
}

/// The same for one vector, of which the columns before `done` have been added.
template <std::floating_point T, std::size_t Bytes>
DPOPT_FORCE_INLINE inline void add_one_vector(vector_bytes<Bytes> /*width*/, const T* rows, isize stride,
                                              const T* scales, isize count, T* out, isize done) noexcept {
  DPOPT_NO_CONTRACT_BLOCK
  wide<T, Bytes> sums, numbers;
  std::memcpy(&sums, out, Bytes);
  for (isize i = 0; i < count; ++i, rows += stride) {
    std::memcpy(&numbers, rows, Bytes);
    sums += scales[i] * numbers;
  }
  if (done == 0) std::memcpy(out, &sums, Bytes);
  else
    for (isize k = done; k < static_cast<isize>(Bytes / sizeof(T)); ++k) out[k] = sums[k];
}

/// Whether vectors as wide as a cache line would touch two of them, in each row or most. Of half that width every other
/// one does, which is faster from memory.
template <std::size_t Bytes, std::floating_point T>
[[nodiscard]] DPOPT_FORCE_INLINE inline bool across_lines(const T* rows, isize stride) noexcept {
  constexpr std::uintptr_t line = 64;
  if constexpr (Bytes < line) return false;
  else return (reinterpret_cast<std::uintptr_t>(rows) | (static_cast<std::uintptr_t>(stride) * sizeof(T))) % line != 0;
}

/// out += sum of scales[i] x row i, n numbers each. The last columns are the end of a whole vector.
template <std::floating_point T, std::size_t Bytes>
DPOPT_FORCE_INLINE inline void add_scaled_rows(vector_bytes<Bytes> width, const T* rows, isize stride, isize n,
                                               const T* scales, isize count, T* out) noexcept {
  DPOPT_NO_CONTRACT_BLOCK
  constexpr auto lanes = static_cast<isize>(Bytes / sizeof(T));
  if (n >= 2 * lanes ? !across_lines<Bytes>(rows, stride) : n >= lanes) {
    isize k = 0;
    for (; k + 8 * lanes <= n; k += 8 * lanes) add_vectors<8>(width, rows + k, stride, scales, count, out + k);
    if (k + 4 * lanes <= n) {
      add_vectors<4>(width, rows + k, stride, scales, count, out + k);
      k += 4 * lanes;
    }
    for (; k + lanes <= n; k += lanes) add_one_vector(width, rows + k, stride, scales, count, out + k, 0);
    const isize last = n - lanes;
    if (k < n) add_one_vector(width, rows + last, stride, scales, count, out + last, k - last);
  } else if constexpr (Bytes > 16) {
    add_scaled_rows(vector_bytes<Bytes / 2>{}, rows, stride, n, scales, count, out);
  } else {
    for (isize k = 0; k < n; ++k) {
      T sum = out[k];
      for (isize i = 0; i < count; ++i) sum += scales[i] * rows[i * stride + k];
      out[k] = sum;
    }
  }
}

/// out += sum of factors[i] x row i, n numbers each, for what vectorized() calls with a width. A row of factor 0 is not
/// read.
template <std::floating_point T, std::size_t Bytes>
DPOPT_FORCE_INLINE inline void add_short_rows(vector_bytes<Bytes> width, const T* rows, isize stride, isize n,
                                              const double* factors, isize count, T* out) noexcept {
  constexpr isize together = 64;
  T scales[together];
  for (isize first = 0; first < count; first += together) {
    const isize part = std::min(together, count - first);
    const double* const given = factors + first;
    const bool zeros = round_all_down(given, part, scales);
    for (isize i = 0, end = 0; i < part; i = end + 1) {
      end = part;
      if (zeros) end = std::find(given + i, given + part, 0.0) - given;
      add_scaled_rows(width, rows + (first + i) * stride, stride, n, scales + i, end - i, out);
    }
  }
}

} // namespace dpopt::detail
