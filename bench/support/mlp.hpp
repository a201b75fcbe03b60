// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// A multilayer perceptron in Eigen with ReLU and softmax cross entropy, as one would write it without privacy.
#pragma once

#include "support/dense.hpp"

#include <cstddef>
#include <cstdlib>
#include <string>
#include <vector>

namespace bench {

/// All samples of a step at once. Nothing is allocated after construction.
class mlp {
public:
  /// Widths of the layers, inputs first, and the number of samples of a step.
  struct shape {
    std::vector<isize> widths;
    isize batch;

    [[nodiscard]] std::string name() const {
      std::string out;
      for (const isize w : widths) out += (out.empty() ? "" : "-") + std::to_string(w);
      return out + " B=" + std::to_string(batch);
    }
  };

  explicit mlp(const shape& s) : batch_(s.batch) {
    std::srand(1); // Eigen's random numbers
    x_ = matrix::Random(s.batch, s.widths.front());
    for (std::size_t l = 0; l + 1 < s.widths.size(); ++l)
      layers_.emplace_back(all_, "layer" + std::to_string(l), s.batch, 1, s.widths[l], s.widths[l + 1]);
  }
  mlp(const mlp&) = delete;
  mlp& operator=(const mlp&) = delete;

  [[nodiscard]] parameter_list& parameters() { return all_; }
  [[nodiscard]] isize batch() const { return batch_; }
  [[nodiscard]] isize bytes() const {
    isize n = x_.size() + all_.numbers();
    for (const dense& l : layers_) n += l.numbers();
    return n * static_cast<isize>(sizeof(float));
  }

  void forward() {
    for (std::size_t l = 0; l < layers_.size(); ++l) {
      layers_[l].forward(input(l));
      if (l + 1 < layers_.size()) layers_[l].y = layers_[l].y.cwiseMax(0.0F);
    }
  }
  [[nodiscard]] double loss() const { return cross_entropy(layers_.back().y); }

  template <class Visit>
  void backward(float scale, const Visit& visit) {
    differentiate_cross_entropy(layers_.back().y, scale, layers_.back().e);
    for (std::size_t l = layers_.size(); l-- > 0;) {
      layers_[l].backward(input(l), visit);
      if (l == 0) break;
      layers_[l].propagate(layers_[l - 1].e);
      mask_by(layers_[l - 1].y, layers_[l - 1].e);
    }
  }

private:
  [[nodiscard]] const matrix& input(std::size_t l) const { return l == 0 ? x_ : layers_[l - 1].y; }

  parameter_list all_;
  isize batch_;
  matrix x_;
  std::vector<dense> layers_;
};

} // namespace bench
