// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// A small multi-layer perceptron in Eigen: dense layers, tanh between them, softmax with cross-entropy at the end.
///
/// Its backward pass keeps samples apart: for each layer, last one first, it hands over the inputs and the output
/// gradients of every sample. The gradient of sample i is the outer product of row i of both, so nobody has to write it
/// out. The bias is the weight of an input that is always 1: one clipped and noised parameter a layer instead of two.
#pragma once

#include "data.hpp"

#include <algorithm>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <random>
#include <span>
#include <string>
#include <vector>

namespace digits {

class mlp {
public:
  /// @param widths {inputs, hidden..., outputs}.
  /// @param seed of the initial weights, N(0, 1 / fan_in) each. Public: it says nothing about data or noise.
  mlp(const std::vector<int>& widths, std::uint64_t seed) {
    std::mt19937_64 random(seed);
    std::normal_distribution<float> normal;
    for (std::size_t l = 0; l + 1 < widths.size(); ++l) {
      const int fan_in = widths[l] + 1;
      matrix w(widths[l + 1], fan_in);
      for (float& x : w.reshaped<Eigen::RowMajor>()) x = normal(random) / std::sqrt(static_cast<float>(fan_in));
      weights_.push_back(w);
      names_.push_back("layer" + std::to_string(l + 1) + ".weight");
    }
    activations_.resize(weights_.size());
  }

  [[nodiscard]] std::size_t layers() const noexcept { return weights_.size(); }
  /// Row-major [outputs x (inputs + 1)], the bias last.
  [[nodiscard]] matrix& weight(std::size_t layer) { return weights_[layer]; }
  [[nodiscard]] const std::string& name(std::size_t layer) const { return names_[layer]; }

  /// Forward and backward over a batch. Calls ready(layer, activations, output_gradients), both row-major with a sample
  /// a row, from the last layer to the first; what it refers to is valid until the next call of ready or of gradients.
  /// @param inputs [batch x inputs]; @param labels one a sample. A batch of 0 is fine.
  /// @return the sum of the losses of the samples: PRIVATE, as it is a function of the training data without noise.
  template <std::invocable<std::size_t, const matrix&, const matrix&> Ready>
  double gradients(const matrix& inputs, std::span<const int> labels, Ready&& ready) {
    const std::size_t last = layers() - 1;
    with_constant(inputs, activations_[0]);
    for (std::size_t l = 0; l < last; ++l)
      with_constant((activations_[l] * weights_[l].transpose()).array().tanh().matrix(), activations_[l + 1]);
    matrix errors = activations_[last] * weights_[last].transpose();

    double loss = 0;
    for (Eigen::Index i = 0; i < errors.rows(); ++i) {
      auto p = errors.row(i); // logits become probabilities become d loss / d logits
      const int label = labels[static_cast<std::size_t>(i)];
      p = (p.array() - p.maxCoeff()).exp().matrix().eval();
      p /= p.sum();
      loss -= std::log(std::max(p(label), 1e-30F));
      p(label) -= 1;
    }
    for (std::size_t l = last;; --l) {
      ready(l, activations_[l], errors);
      if (l == 0) return loss;
      const auto h = activations_[l].leftCols(weights_[l].cols() - 1);
      errors = ((errors * weights_[l].leftCols(h.cols())).array() * (1 - h.array().square())).matrix().eval();
    }
  }

  /// The share of samples whose largest output is the label's.
  [[nodiscard]] double accuracy(const matrix& inputs, std::span<const int> labels) const {
    matrix x, out = inputs;
    for (std::size_t l = 0; l < layers(); ++l) {
      with_constant(l == 0 ? out : out.array().tanh().matrix().eval(), x);
      out = x * weights_[l].transpose();
    }
    std::ptrdiff_t right = 0;
    for (Eigen::Index i = 0; i < out.rows(); ++i) {
      Eigen::Index best = 0;
      out.row(i).maxCoeff(&best);
      right += best == labels[static_cast<std::size_t>(i)] ? 1 : 0;
    }
    return static_cast<double>(right) / static_cast<double>(std::max<Eigen::Index>(1, out.rows()));
  }

private:
  /// to = [x, 1].
  static void with_constant(const matrix& x, matrix& to) {
    to.resize(x.rows(), x.cols() + 1);
    to.leftCols(x.cols()) = x;
    to.rightCols(1).setOnes();
  }

  std::vector<matrix> weights_;
  std::vector<std::string> names_;
  std::vector<matrix> activations_; // inputs of each layer, the constant 1 included
};

/// The per-sample gradients of a layer written out, [batch x outputs * inputs]: what linear_weight avoids.
inline void write_out(const matrix& activations, const matrix& output_gradients, matrix& out) {
  out.resize(activations.rows(), activations.cols() * output_gradients.cols());
  for (Eigen::Index i = 0; i < out.rows(); ++i)
    out.row(i).reshaped<Eigen::RowMajor>(output_gradients.cols(), activations.cols()).noalias() =
        output_gradients.row(i).transpose() * activations.row(i);
}

} // namespace digits
