// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The plain trainer that private steps are measured against: a multilayer perceptron in Eigen with ReLU, softmax cross
/// entropy and SGD, as one would write it without privacy.
#pragma once

#include "dpopt/core/types.hpp"

#include <Eigen/Core>

#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

namespace bench {

using dpopt::isize;
using matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using row_vector = Eigen::Matrix<float, 1, Eigen::Dynamic>;

/// Widths of the layers, inputs first, and the number of samples of a step.
struct shape {
  std::vector<isize> widths;
  isize batch;

  [[nodiscard]] std::string name() const {
    std::string out;
    for (const isize w : widths) out += (out.empty() ? "" : "-") + std::to_string(w);
    return out + " B=" + std::to_string(batch);
  }
  [[nodiscard]] isize layers() const { return std::ssize(widths) - 1; }
  [[nodiscard]] isize parameters() const {
    isize n = 0;
    for (isize l = 0; l < layers(); ++l) n += (in(l) + 1) * out(l);
    return n;
  }
  [[nodiscard]] isize in(isize l) const { return widths[static_cast<std::size_t>(l)]; }
  [[nodiscard]] isize out(isize l) const { return widths[static_cast<std::size_t>(l + 1)]; }
};

struct layer {
  std::string weight_name, bias_name;
  matrix w;     ///< [out x in]
  row_vector b; ///< [out]
  matrix a;     ///< inputs of the layer, [batch x in]
  matrix e;     ///< derivative of the loss by the layer's output before ReLU, [batch x out]
};

/// All samples of a step at once. Nothing is allocated after construction.
class mlp {
public:
  explicit mlp(const shape& s) : shape_(s), layers_(static_cast<std::size_t>(s.layers())) {
    std::srand(1); // Eigen's random numbers
    for (isize l = 0; l < s.layers(); ++l) {
      layer& one = at(l);
      one.weight_name = "w" + std::to_string(l);
      one.bias_name = "b" + std::to_string(l);
      one.w = matrix::Random(s.out(l), s.in(l)) * std::sqrt(3.0F / static_cast<float>(s.in(l)));
      one.b = row_vector::Zero(s.out(l));
      one.a = matrix::Random(s.batch, s.in(l));
      one.e = matrix::Zero(s.batch, s.out(l));
    }
    labels_.resize(static_cast<std::size_t>(s.batch));
    for (isize i = 0; i < s.batch; ++i) labels_[static_cast<std::size_t>(i)] = i % s.widths.back();
    scores_ = matrix::Zero(s.batch, s.widths.back());
  }

  [[nodiscard]] const shape& its_shape() const { return shape_; }
  [[nodiscard]] layer& at(isize l) { return layers_[static_cast<std::size_t>(l)]; }
  [[nodiscard]] isize size() const { return std::ssize(layers_); }

  void forward() {
    for (isize l = 0; l < size(); ++l) {
      layer& one = at(l);
      matrix& to = l + 1 < size() ? at(l + 1).a : scores_;
      to.noalias() = one.a * one.w.transpose();
      to.rowwise() += one.b;
      if (l + 1 < size()) to = to.cwiseMax(0.0F);
    }
  }

  /// Derivative of each sample's loss by its scores, times `scale`.
  void differentiate_loss(float scale) {
    matrix& e = at(size() - 1).e;
    for (isize i = 0; i < shape_.batch; ++i) {
      auto row = e.row(i);
      row = (scores_.row(i).array() - scores_.row(i).maxCoeff()).exp();
      row *= scale / row.sum();
      row(labels_[static_cast<std::size_t>(i)]) -= scale;
    }
  }

  /// The layer below layer l gets its output derivative.
  void propagate(isize l) {
    matrix& below = at(l - 1).e;
    below.noalias() = at(l).e * at(l).w;
    below = (at(l).a.array() > 0).select(below, 0.0F);
  }

private:
  shape shape_;
  std::vector<layer> layers_;
  std::vector<isize> labels_;
  matrix scores_;
};

/// The step without privacy: gradients of the mean loss, then SGD.
class plain_sgd {
public:
  explicit plain_sgd(mlp& model) : model_(model) {
    for (isize l = 0; l < model.size(); ++l) {
      w_.emplace_back(matrix::Zero(model.at(l).w.rows(), model.at(l).w.cols()));
      b_.emplace_back(row_vector::Zero(model.at(l).b.cols()));
    }
  }

  void step(float learning_rate) {
    model_.forward();
    model_.differentiate_loss(1.0F / static_cast<float>(model_.its_shape().batch));
    for (isize l = model_.size() - 1; l >= 0; --l) {
      const auto at = static_cast<std::size_t>(l);
      w_[at].noalias() = model_.at(l).e.transpose() * model_.at(l).a;
      b_[at] = model_.at(l).e.colwise().sum();
      if (l > 0) model_.propagate(l);
    }
    for (isize l = 0; l < model_.size(); ++l) {
      model_.at(l).w -= learning_rate * w_[static_cast<std::size_t>(l)];
      model_.at(l).b -= learning_rate * b_[static_cast<std::size_t>(l)];
    }
  }

private:
  mlp& model_;
  std::vector<matrix> w_;
  std::vector<row_vector> b_;
};

/// Bytes that the plain step keeps: parameters, gradients, inputs and output derivatives of all layers.
[[nodiscard]] inline isize plain_bytes(const shape& s) {
  isize numbers = 2 * s.parameters() + s.batch * s.widths.back();
  for (isize l = 0; l < s.layers(); ++l) numbers += s.batch * (s.in(l) + s.out(l));
  return numbers * static_cast<isize>(sizeof(float));
}

} // namespace bench
