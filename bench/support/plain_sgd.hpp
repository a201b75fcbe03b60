// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The step without privacy that private ones are measured against: gradients of the mean loss of a network (see
/// network.hpp), then SGD.
#pragma once

#include "support/convolution.hpp"
#include "support/network.hpp"

#include <cstddef>
#include <vector>

namespace bench {

/// Writes the batch's gradient of one parameter, as a trainer in Eigen computes it.
struct batch_gradient {
  float* to;

  void operator()(const linear_use& u) const {
    const isize rows = u.samples * u.positions;
    matrix_view(to, u.outputs, u.inputs).noalias() =
        const_matrix_view(u.e, rows, u.outputs).transpose() * const_matrix_view(u.a, rows, u.inputs);
  }
  void operator()(const convolution_use& u) const {
    const isize positions = u.geometry.output_positions(), pixels = u.geometry.input_positions();
    matrix_view g(to, u.geometry.output_channels, u.geometry.columns());
    g.setZero();
    matrix patches = matrix::Zero(u.geometry.columns(), positions);
    for (isize i = 0; i < u.samples; ++i) {
      write_patches(u.geometry, u.x + i * u.geometry.input_channels * pixels, patches);
      g.noalias() += const_matrix_view(u.e + i * g.rows() * positions, g.rows(), positions) * patches.transpose();
    }
  }
  void operator()(const shift_use& u) const {
    const dpopt::channel_layout& at = u.layout;
    if (at.channel_stride == 1) { // a row a position
      Eigen::Map<row_vector>(to, at.channels) =
          const_matrix_view(u.e, at.batch * at.positions, at.channels).colwise().sum();
    } else {
      Eigen::Map<Eigen::VectorXf> sums(to, at.channels);
      sums.setZero();
      for (isize i = 0; i < at.batch; ++i)
        sums += const_matrix_view(u.e + i * at.sample_stride, at.channels, at.positions).rowwise().sum();
    }
  }
  void operator()(const gain_use& u) const {
    const isize rows = u.layout.batch * u.layout.positions;
    Eigen::Map<row_vector>(to, u.layout.channels) =
        const_matrix_view(u.e, rows, u.layout.channels)
            .cwiseProduct(const_matrix_view(u.normalized, rows, u.layout.channels))
            .colwise()
            .sum();
  }
};

template <class Network>
class plain_sgd {
public:
  explicit plain_sgd(Network& network) : network_(network) {
    for (isize p = 0; p < network.parameters().count(); ++p)
      gradients_.emplace_back(static_cast<std::size_t>(network.parameters()[p].size()));
  }

  /// Gradients of the mean loss at the network's parameters.
  const std::vector<std::vector<float>>& differentiate() {
    network_.forward();
    network_.backward(1.0F / static_cast<float>(network_.batch()), [&](isize p, const auto& use) {
      batch_gradient{gradients_[static_cast<std::size_t>(p)].data()}(use);
    });
    return gradients_;
  }

  void step(float learning_rate) {
    differentiate();
    for (isize p = 0; p < network_.parameters().count(); ++p) {
      parameter& one = network_.parameters()[p];
      Eigen::Map<row_vector>(one.values.data(), one.size()) -=
          learning_rate * Eigen::Map<const row_vector>(gradients_[static_cast<std::size_t>(p)].data(), one.size());
    }
  }

private:
  Network& network_;
  std::vector<std::vector<float>> gradients_;
};

/// Bytes that the plain step keeps: parameters, gradients, outputs and their derivatives of all layers.
template <class Network>
[[nodiscard]] isize plain_bytes(Network& network) {
  return network.bytes() + network.parameters().numbers() * static_cast<isize>(sizeof(float));
}

} // namespace bench
