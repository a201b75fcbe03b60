// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Eigen's matrix product for weighted sums (component dpopt::eigen): as fast as the instructions that the program is
/// compiled for, and with OpenMP in parallel.
#pragma once

#include "dpopt/gradients/product.hpp"

#include <Eigen/Core>

namespace dpopt::eigen {

/// linear_weight<float, eigen::eigen_product>. Sums are rounded in an order of Eigen's.
struct eigen_product {
  template <std::floating_point T>
  void add(isize m, isize n, isize count, strided_rows<const T> a, strided_rows<const T> b, strided_rows<T> out,
           workspace&) const {
    if (m == 0 || n == 0 || count == 0) return;
    sum(out, m, n).noalias() += operand(a, count, m).transpose() * operand(b, count, n);
  }
  template <std::floating_point T>
  void add_transposed(isize m, isize n, isize count, strided_rows<const T> a, strided_rows<const T> b,
                      strided_rows<T> out, workspace&) const {
    if (m == 0 || n == 0 || count == 0) return;
    sum(out, m, n).noalias() += operand(a, m, count) * operand(b, n, count).transpose();
  }

private:
  template <class T>
  using matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;

  template <class T>
  static Eigen::Map<const matrix<T>, 0, Eigen::OuterStride<>> operand(strided_rows<const T> x, isize rows,
                                                                      isize columns) {
    return {x.first, rows, columns, Eigen::OuterStride<>(x.stride)};
  }
  template <class T>
  static Eigen::Map<matrix<T>, 0, Eigen::OuterStride<>> sum(strided_rows<T> out, isize m, isize n) {
    return {out.first, m, n, Eigen::OuterStride<>(out.stride)};
  }
};

static_assert(MatrixProduct<eigen_product, float> && MatrixProduct<eigen_product, double>);

} // namespace dpopt::eigen
