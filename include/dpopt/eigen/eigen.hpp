// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Eigen matrices as parameters and as gradient sources (component dpopt::eigen). Views only: nothing is copied, so the
/// matrices must outlive what is made from them, and expressions are refused.
#pragma once

#include "dpopt/core/error.hpp"
#include "dpopt/gradients/linear_weight.hpp"
#include "dpopt/gradients/materialized.hpp"
#include "dpopt/parameters/parameter_view.hpp"

#include <Eigen/Core>

#include <cstddef>
#include <span>
#include <string_view>

namespace dpopt::eigen {

/// All numbers of a matrix or vector, in its storage order.
template <class M>
[[nodiscard]] std::span<typename M::Scalar> numbers(Eigen::PlainObjectBase<M>& m) {
  return {m.data(), static_cast<std::size_t>(m.size())};
}

/// A parameter whose released gradient nobody reads.
template <class M>
[[nodiscard]] parameter_view<typename M::Scalar> parameter(std::string_view name, Eigen::PlainObjectBase<M>& value) {
  return {name, numbers(value), {}};
}

/// A parameter with a gradient matrix of the same shape and storage order.
template <class M>
[[nodiscard]] parameter_view<typename M::Scalar> parameter(std::string_view name, Eigen::PlainObjectBase<M>& value,
                                                           Eigen::PlainObjectBase<M>& gradient) {
  return {name, numbers(value), numbers(gradient)};
}

/// Samples of a matrix of vectors. Each sample's vector must be contiguous: [features x batch] column-major (Eigen's
/// default, a sample a column) or [batch x features] row-major (a sample a row).
template <class M>
[[nodiscard]] isize batch_of(const Eigen::PlainObjectBase<M>& m) {
  return M::IsRowMajor ? m.rows() : m.cols();
}

/// Per-sample gradients written out, and the source of a bias: pass the output gradients. @see batch_of for the layout.
template <class M>
[[nodiscard]] materialized<typename M::Scalar> per_sample(const Eigen::PlainObjectBase<M>& m) {
  return {m.data(), batch_of(m), M::IsRowMajor ? m.cols() : m.rows()};
}

/// The weight of a linear layer, W of type Weight with y = W x, from inputs and output gradients as batch_of says.
/// Gradients come in W's storage order. Product: also eigen_product.
/// @throw invalid_argument when the two hold different numbers of samples; the numbers are private and not in the text.
template <class Weight, class Product = portable_product, class A, class E>
[[nodiscard]] linear_weight<typename A::Scalar, Product> linear(const Eigen::PlainObjectBase<A>& activations,
                                                                const Eigen::PlainObjectBase<E>& output_gradients) {
  if (batch_of(activations) != batch_of(output_gradients))
    throw invalid_argument(
        "eigen::linear: activations and output gradients hold different numbers of samples; a sample is "
        "a row of row-major and a column of column-major matrices");
  const isize inputs = A::IsRowMajor ? activations.cols() : activations.rows();
  const isize outputs = E::IsRowMajor ? output_gradients.cols() : output_gradients.rows();
  if constexpr (Weight::IsRowMajor)
    return {activations.data(), output_gradients.data(), batch_of(activations), inputs, outputs};
  else // column-major W is row-major W^T, whose outer product has the factors the other way round
    return {output_gradients.data(), activations.data(), batch_of(activations), outputs, inputs};
}

} // namespace dpopt::eigen
