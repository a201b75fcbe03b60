// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The machine's BLAS for weighted sums (component dpopt::blas): any library with the C interface, cblas.h.
///
/// Privacy: the contract of MatrixProduct holds for every library that multiplies and adds in the type of the numbers,
/// in whatever order: OpenBLAS, BLIS, Netlib. Modes that lower the precision (products of floats in bfloat16 or TF32)
/// and products of Strassen's kind break it: leave them off, or no norm bounds what is added.
#pragma once

#include "dpopt/gradients/product.hpp"

#include <cblas.h>

#include <algorithm>
#include <concepts>
#include <limits>
#include <type_traits>

namespace dpopt::blas {

/// linear_weight<float, blas::blas_product>. Sums are rounded in an order of the library's, which may differ with its
/// number of threads. Sizes and strides beyond int, and rows that overlap or go backwards, which the interface cannot
/// say (a library prints a line and adds nothing), are portable_product's.
struct blas_product {
  template <class T>
    requires std::same_as<T, float> || std::same_as<T, double>
  void add(isize m, isize n, isize count, strided_rows<const T> a, strided_rows<const T> b, strided_rows<T> out,
           workspace& scratch) const {
    if (m == 0 || n == 0 || count == 0) return;
    if (std::max({m, n, count, a.stride, b.stride, out.stride}) > std::numeric_limits<int>::max() || a.stride < m ||
        b.stride < n || out.stride < n)
      return portable_product{}.add(m, n, count, a, b, out, scratch);
    multiply(CblasTrans, CblasNoTrans, m, n, count, a, b, out);
  }
  template <class T>
    requires std::same_as<T, float> || std::same_as<T, double>
  void add_transposed(isize m, isize n, isize count, strided_rows<const T> a, strided_rows<const T> b,
                      strided_rows<T> out, workspace& scratch) const {
    if (m == 0 || n == 0 || count == 0) return;
    if (std::max({m, n, count, a.stride, b.stride, out.stride}) > std::numeric_limits<int>::max())
      return portable_product{}.add_transposed(m, n, count, a, b, out, scratch);
    multiply(CblasNoTrans, CblasTrans, m, n, count, a, b, out);
  }

private:
  template <class T>
  static void multiply(CBLAS_TRANSPOSE of_a, CBLAS_TRANSPOSE of_b, isize m, isize n, isize count,
                       strided_rows<const T> a, strided_rows<const T> b, strided_rows<T> out) {
    const auto size = [](isize k) { return static_cast<int>(k); };
    if constexpr (std::is_same_v<T, float>)
      cblas_sgemm(CblasRowMajor, of_a, of_b, size(m), size(n), size(count), 1.0F, a.first, size(a.stride), b.first,
                  size(b.stride), 1.0F, out.first, size(out.stride));
    else
      cblas_dgemm(CblasRowMajor, of_a, of_b, size(m), size(n), size(count), 1.0, a.first, size(a.stride), b.first,
                  size(b.stride), 1.0, out.first, size(out.stride));
  }
};

static_assert(MatrixProduct<blas_product, float> && MatrixProduct<blas_product, double>);

} // namespace dpopt::blas
