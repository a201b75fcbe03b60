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
    using matrix = Eigen::Matrix<T, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    using input = Eigen::Map<const matrix, 0, Eigen::OuterStride<>>;
    Eigen::Map<matrix, 0, Eigen::OuterStride<>>(out.first, m, n, Eigen::OuterStride<>(out.stride)).noalias() +=
        input(a.first, count, m, Eigen::OuterStride<>(a.stride)).transpose() *
        input(b.first, count, n, Eigen::OuterStride<>(b.stride));
  }
};

static_assert(MatrixProduct<eigen_product, float> && MatrixProduct<eigen_product, double>);

} // namespace dpopt::eigen
