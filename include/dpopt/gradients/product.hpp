// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The matrix products behind weighted sums of factored gradients: out += A^T B, a sample's position a row of A and B,
/// or out += A B^T, a position a column of both (images, whose channels lie one behind the other).
///
/// Satisfied by portable_product (below, needs nothing), eigen::eigen_product and blas_product, each in its own header.
/// A source takes the product as its last template argument.
///
/// Privacy contract: each a * b is rounded at most once, in Out, and each addition at most once; numbers of rows that
/// were not given are never read. portable_product also adds the rows in their order, so that it has the same bits
/// however a batch is split and whatever the machine; the libraries' products do not promise that.
#pragma once

#include "dpopt/core/types.hpp"
#include "dpopt/core/vector_dispatch.hpp"
#include "dpopt/core/workspace.hpp"

#include <algorithm>
#include <concepts>
#include <type_traits>

namespace dpopt {

/// Row-major [rows x columns] numbers with a stride from row to row, in elements.
template <class V>
struct strided_rows {
  V* first = nullptr;
  isize stride = 0;
  [[nodiscard]] DPOPT_FORCE_INLINE V* row(isize i) const noexcept { return first + i * stride; }
};

/// p.add(m, n, count, A, B, out, scratch): out[m x n] += A^T B with A [count x m] and B [count x n].
/// p.add_transposed(m, n, count, A, B, out, scratch): out[m x n] += A B^T with A [m x count] and B [n x count].
template <class P, class Out>
concept MatrixProduct =
    std::is_empty_v<P> && std::is_trivially_copyable_v<P> &&
    requires(const P p, isize n, strided_rows<const Out> in, strided_rows<Out> out, workspace& scratch) {
      p.add(n, n, n, in, in, out, scratch);
      p.add_transposed(n, n, n, in, in, out, scratch);
    };

namespace detail {

/// Number k of position i lies at first[i * position + k * number]; one of the two strides is 1.
template <class T>
struct positions_of {
  const T* first;
  isize position;
  isize number;
  [[nodiscard]] DPOPT_FORCE_INLINE positions_of from(isize i, isize k) const noexcept {
    return {first + i * position + k * number, position, number};
  }
};

/// Both operands in panels, then one block of sums in registers at a time. Height x Width sums fill half or more of the
/// registers of a level, so that each number loaded is used Height or Width times.
template <std::floating_point T, isize Height, isize Width>
struct product_kernel {
  static constexpr isize depth = 128;   // rows at a time: a panel of Width columns stays in the first-level cache
  static constexpr isize columns = 240; // of A at a time: its panels stay in the second-level cache
  /// Numbers that the panels of A and of B take, whatever the number of rows.
  [[nodiscard]] static constexpr isize left_room(isize m) noexcept { return depth * (std::min(columns, m) + Height); }
  static constexpr isize right_room = depth * Width;

  /// Missing columns are zeros; their sums are never stored.
  template <isize Panel>
  DPOPT_FORCE_INLINE static void pack(isize count, isize width, positions_of<T> from, T* to) noexcept {
    if (from.number == 1)
      for (isize i = 0; i < count; ++i) {
        const T* const row = from.first + i * from.position;
        for (isize k = 0; k < Panel; ++k) to[i * Panel + k] = k < width ? row[k] : T(0);
      }
    else
      for (isize k = 0; k < Panel; ++k) {
        const T* const row = from.first + k * from.number;
        for (isize i = 0; i < count; ++i) to[i * Panel + k] = k < width ? row[i] : T(0);
      }
  }

  /// out[Height x Width] += a^T b. The sums start from out and take the rows in order.
  DPOPT_FORCE_INLINE static void block(isize count, const T* a, const T* b, T* out, isize stride) noexcept {
    DPOPT_NO_CONTRACT_BLOCK
    T sums[Height][Width];
    for (isize r = 0; r < Height; ++r)
      for (isize k = 0; k < Width; ++k) sums[r][k] = out[r * stride + k];
    for (isize i = 0; i < count; ++i)
      for (isize r = 0; r < Height; ++r)
        for (isize k = 0; k < Width; ++k) sums[r][k] += a[i * Height + r] * b[i * Width + k];
    for (isize r = 0; r < Height; ++r)
      for (isize k = 0; k < Width; ++k) out[r * stride + k] = sums[r][k];
  }

  DPOPT_FORCE_INLINE static void add(isize m, isize n, isize count, positions_of<T> a, positions_of<T> b,
                                     strided_rows<T> out, T* left, T* right) noexcept {
    DPOPT_NO_CONTRACT_BLOCK
    T edge[Height * Width];
    for (isize i = 0; i < count; i += depth)
      for (isize r0 = 0; r0 < m; r0 += columns) {
        const isize rows = std::min(depth, count - i);
        const isize r1 = std::min(m, r0 + columns);
        for (isize r = r0; r < r1; r += Height)
          pack<Height>(rows, std::min(Height, r1 - r), a.from(i, r), left + (r - r0) * rows);
        for (isize c = 0; c < n; c += Width) {
          const isize width = std::min(Width, n - c);
          pack<Width>(rows, width, b.from(i, c), right);
          for (isize r = r0; r < r1; r += Height) {
            const isize height = std::min(Height, r1 - r);
            const T* const panel = left + (r - r0) * rows;
            T* const to = out.row(r) + c;
            if (height == Height && width == Width) {
              block(rows, panel, right, to, out.stride);
              continue;
            }
            for (isize j = 0; j < Height * Width; ++j) edge[j] = 0;
            for (isize j = 0; j < height; ++j)
              for (isize k = 0; k < width; ++k) edge[j * Width + k] = to[j * out.stride + k];
            block(rows, panel, right, edge, Width);
            for (isize j = 0; j < height; ++j)
              for (isize k = 0; k < width; ++k) to[j * out.stride + k] = edge[j * Width + k];
          }
        }
      }
  }
};

} // namespace detail

/// Blocked for caches and registers, compiled for every vector level, without threads.
struct portable_product {
  /// Numbers of T that a product of m rows takes from scratch memory, whatever the machine.
  template <std::floating_point T>
  [[nodiscard]] static constexpr isize room(isize m) noexcept {
    return left_room<T>(m) + right_room<T>;
  }

  template <std::floating_point T>
  void add(isize m, isize n, isize count, strided_rows<const T> a, strided_rows<const T> b, strided_rows<T> out,
           workspace& scratch) const {
    add_positions<T>(m, n, count, {a.first, a.stride, 1}, {b.first, b.stride, 1}, out, scratch);
  }
  template <std::floating_point T>
  void add_transposed(isize m, isize n, isize count, strided_rows<const T> a, strided_rows<const T> b,
                      strided_rows<T> out, workspace& scratch) const {
    add_positions<T>(m, n, count, {a.first, 1, a.stride}, {b.first, 1, b.stride}, out, scratch);
  }

private:
  // The shapes that g++ 12 keeps in registers; it takes loops of 16 turns apart before it sees vectors in them.
  template <class T>
  static constexpr bool narrow = sizeof(T) == sizeof(float);
  template <class T>
  using plain = detail::product_kernel<T, 4, narrow<T> ? 8 : 4>;
  template <class T>
  using avx2 = detail::product_kernel<T, narrow<T> ? 3 : 4, narrow<T> ? 32 : 8>;
  template <class T>
  using avx512 = detail::product_kernel<T, narrow<T> ? 8 : 4, 32>;

  template <class T>
  [[nodiscard]] static constexpr isize left_room(isize m) noexcept {
    return std::max({plain<T>::left_room(m), avx2<T>::left_room(m), avx512<T>::left_room(m)});
  }
  template <class T>
  static constexpr isize right_room = std::max({plain<T>::right_room, avx2<T>::right_room, avx512<T>::right_room});

  template <std::floating_point T>
  DPOPT_HOT static void add_positions(isize m, isize n, isize count, detail::positions_of<T> a,
                                      detail::positions_of<T> b, strided_rows<T> out, workspace& scratch) {
    const workspace::scope scope(scratch);
    T* const left = scratch.take<T>(left_room<T>(m));
    T* const right = scratch.take<T>(right_room<T>);
    const vector_level level = best_vector_level();
    if (level == vector_level::avx512)
      at_vector_level(level, [=]() DPOPT_FORCE_INLINE_LAMBDA { avx512<T>::add(m, n, count, a, b, out, left, right); });
    else if (level == vector_level::avx2)
      at_vector_level(level, [=]() DPOPT_FORCE_INLINE_LAMBDA { avx2<T>::add(m, n, count, a, b, out, left, right); });
    else
      at_vector_level(level, [=]() DPOPT_FORCE_INLINE_LAMBDA { plain<T>::add(m, n, count, a, b, out, left, right); });
  }
};

static_assert(MatrixProduct<portable_product, float> && MatrixProduct<portable_product, double>);

} // namespace dpopt
