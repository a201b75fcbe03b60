// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// A small convolutional network in Eigen: three 3 x 3 convolutions of 16, 32 and 32 channels, the last two with
/// stride 2, ReLU, and a dense layer to ten classes.
#pragma once

#include "support/convolution.hpp"
#include "support/dense.hpp"

#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <optional>
#include <string>
#include <vector>

namespace bench {

class cnn {
public:
  /// Square images of one channel.
  struct shape {
    std::int32_t side;
    isize batch;

    [[nodiscard]] std::string name() const {
      return "CNN " + std::to_string(side) + "x" + std::to_string(side) + " B=" + std::to_string(batch);
    }
  };

  explicit cnn(const shape& s) : batch_(s.batch) {
    std::srand(1); // Eigen's random numbers
    x_ = matrix::Random(s.batch, s.side * s.side);
    std::int32_t channels = 1, side = s.side;
    for (const auto [out, stride] : {step{16, 1}, step{32, 2}, step{32, 2}}) {
      layers_.emplace_back(all_, "conv" + std::to_string(layers_.size()), s.batch,
                           dpopt::convolution_geometry{.input_channels = channels,
                                                       .output_channels = out,
                                                       .input_size = {side, side},
                                                       .kernel_size = {3, 3},
                                                       .stride = {stride, stride},
                                                       .padding = {1, 1}});
      channels = out;
      side = (side + stride - 1) / stride;
    }
    head_.emplace(all_, "head", s.batch, 1, channels * side * side, 10);
  }
  cnn(const cnn&) = delete;
  cnn& operator=(const cnn&) = delete;

  [[nodiscard]] parameter_list& parameters() { return all_; }
  [[nodiscard]] isize batch() const { return batch_; }
  [[nodiscard]] isize bytes() const {
    isize n = x_.size() + all_.numbers() + head_->numbers();
    for (const convolution& l : layers_) n += l.numbers();
    return n * static_cast<isize>(sizeof(float));
  }

  void forward() {
    for (std::size_t l = 0; l < layers_.size(); ++l) {
      layers_[l].forward(input(l));
      layers_[l].y = layers_[l].y.cwiseMax(0.0F);
    }
    head_->forward(layers_.back().y);
  }
  [[nodiscard]] double loss() const { return cross_entropy(head_->y); }

  template <class Visit>
  void backward(float scale, const Visit& visit) {
    dense& head = *head_;
    differentiate_cross_entropy(head.y, scale, head.e);
    head.backward(layers_.back().y, visit);
    head.propagate(layers_.back().e);
    for (std::size_t l = layers_.size(); l-- > 0;) {
      mask_by(layers_[l].y, layers_[l].e);
      layers_[l].backward(input(l), visit);
      if (l > 0) layers_[l].propagate(layers_[l - 1].e);
    }
  }

private:
  struct step {
    std::int32_t channels, stride;
  };

  [[nodiscard]] const matrix& input(std::size_t l) const { return l == 0 ? x_ : layers_[l - 1].y; }

  parameter_list all_;
  isize batch_;
  matrix x_;
  std::vector<convolution> layers_;
  std::optional<dense> head_; // made last
};

} // namespace bench
