// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// What the networks of the whole-step benchmark have in common. A network has
///   forward()                 from fixed inputs to scores
///   loss()                    of all samples together, from the scores
///   backward(scale, visit)    last layer first; visit(p, use) for each parameter p, where `use` is one of those below
///   parameters(), batch(), bytes()
/// Output derivatives of all layers stay until the next step: a step that is clipped as a whole needs them at its end.
#pragma once

#include "dpopt/core/types.hpp"
#include "dpopt/gradients/channel_layout.hpp"
#include "dpopt/gradients/convolution_geometry.hpp"

#include <Eigen/Core>

#include <cmath>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

namespace bench {

using dpopt::isize;
using matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using row_vector = Eigen::Matrix<float, 1, Eigen::Dynamic>;
using matrix_view = Eigen::Map<matrix>;
using const_matrix_view = Eigen::Map<const matrix>;

struct parameter {
  std::string name;
  std::vector<float> values;

  [[nodiscard]] isize size() const { return std::ssize(values); }
};

/// The parameters of a network in the order of its layers.
class parameter_list {
public:
  /// Uniform numbers up to `largest` in magnitude. @return the parameter's number.
  isize add(std::string name, isize size, float largest) {
    parameter one{std::move(name), std::vector<float>(static_cast<std::size_t>(size))};
    Eigen::Map<row_vector>(one.values.data(), size) = largest * row_vector::Random(size);
    all_.push_back(std::move(one));
    return count() - 1;
  }
  [[nodiscard]] parameter& operator[](isize p) { return all_[static_cast<std::size_t>(p)]; }
  [[nodiscard]] float* data(isize p) { return (*this)[p].values.data(); }
  [[nodiscard]] isize count() const { return std::ssize(all_); }
  [[nodiscard]] isize numbers() const {
    isize n = 0;
    for (const parameter& p : all_) n += p.size();
    return n;
  }

private:
  std::vector<parameter> all_;
};

/// The weight [outputs x inputs] of a dense layer: a [samples x positions x inputs], e [samples x positions x outputs].
struct linear_use {
  const float* a;
  const float* e;
  isize samples, positions, inputs, outputs;
};
/// The weight of a convolution: x [samples x channels x pixels], e likewise for the output.
struct convolution_use {
  const float* x;
  const float* e;
  isize samples;
  dpopt::convolution_geometry geometry;
};
/// What is added to each position: a bias.
struct shift_use {
  const float* e;
  dpopt::channel_layout layout;
};
/// What each position of normalized numbers is multiplied by.
struct gain_use {
  const float* normalized;
  const float* e;
  dpopt::channel_layout layout;
};

/// Softmax cross entropy of rows of scores; row r has the label r modulo the number of classes.
[[nodiscard]] inline double cross_entropy(const matrix& scores) {
  double sum = 0;
  for (isize r = 0; r < scores.rows(); ++r) {
    const Eigen::RowVectorXd row = scores.row(r).cast<double>();
    sum += std::log((row.array() - row.maxCoeff()).exp().sum()) + row.maxCoeff() - row(r % scores.cols());
  }
  return sum;
}

/// e = scale times the derivative of each row's cross entropy by its scores.
inline void differentiate_cross_entropy(const matrix& scores, float scale, matrix& e) {
  for (isize r = 0; r < scores.rows(); ++r) {
    auto row = e.row(r);
    row = (scores.row(r).array() - scores.row(r).maxCoeff()).exp();
    row *= scale / row.sum();
    row(r % scores.cols()) -= scale;
  }
}

/// ReLU's derivative: e is 0 where the output is.
inline void mask_by(const matrix& output, matrix& e) { e = (output.array() > 0).select(e, 0.0F); }

} // namespace bench
