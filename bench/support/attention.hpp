// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Multi-head self-attention between its linear layers, in Eigen: y = softmax(q k^T / sqrt(width)) v in each head.
/// It has no parameters.
#pragma once

#include "support/network.hpp"

#include <cmath>

namespace bench {

/// Rows are (sample, position), columns (head, width).
class attention {
public:
  attention(isize samples, isize positions, isize heads, isize width)
      : y(matrix::Zero(samples * positions, heads * width)), samples_(samples), positions_(positions), heads_(heads),
        width_(width), weights_(matrix::Zero(samples * heads * positions, positions)), d_(positions, positions) {}

  matrix y;

  void forward(const matrix& q, const matrix& k, const matrix& v) {
    for_each_head([&](isize row, isize column, isize at) {
      auto w = weights_.middleRows(at, positions_);
      w.noalias() = part(q, row, column) * part(k, row, column).transpose();
      for (isize t = 0; t < positions_; ++t) {
        auto one = w.row(t);
        one = ((one.array() - one.maxCoeff()) * scale()).exp();
        one /= one.sum();
      }
      part(y, row, column).noalias() = w * part(v, row, column);
    });
  }

  /// Derivatives by q, k and v from e, the one by y.
  void propagate(const matrix& e, const matrix& q, const matrix& k, const matrix& v, matrix& to_q, matrix& to_k,
                 matrix& to_v) {
    for_each_head([&](isize row, isize column, isize at) {
      const auto w = weights_.middleRows(at, positions_);
      part(to_v, row, column).noalias() = w.transpose() * part(e, row, column);
      d_.noalias() = part(e, row, column) * part(v, row, column).transpose();
      for (isize t = 0; t < positions_; ++t)
        d_.row(t) = scale() * w.row(t).array() * (d_.row(t).array() - d_.row(t).dot(w.row(t)));
      part(to_q, row, column).noalias() = d_ * part(k, row, column);
      part(to_k, row, column).noalias() = d_.transpose() * part(q, row, column);
    });
  }

  [[nodiscard]] isize numbers() const { return y.size() + weights_.size() + d_.size(); }

private:
  [[nodiscard]] float scale() const { return 1.0F / std::sqrt(static_cast<float>(width_)); }
  template <class M>
  [[nodiscard]] Eigen::Block<M> part(M& m, isize row, isize column) const {
    return m.block(row, column, positions_, width_);
  }
  template <class F>
  void for_each_head(const F& f) const {
    for (isize i = 0; i < samples_; ++i)
      for (isize h = 0; h < heads_; ++h) f(i * positions_, h * width_, (i * heads_ + h) * positions_);
  }

  isize samples_, positions_, heads_, width_;
  matrix weights_; // [samples x heads x positions] x positions
  matrix d_;       // of one head
};

} // namespace bench
