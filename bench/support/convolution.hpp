// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// A convolution layer over images in Eigen: patches are written out (im2col), then multiplied, sample by sample.
#pragma once

#include "support/network.hpp"

#include <algorithm>
#include <cmath>
#include <string>

namespace bench {

/// Calls f(patch row, output position, input offset, count) for each weight of an output channel and each run of
/// positions in a row of the output where it meets pixels and not padding; pixels are a stride apart.
template <class F>
void for_each_run(const dpopt::convolution_geometry& g, const F& f) {
  const isize height = g.input(1), width = g.input(2), stride = g.stride[1];
  isize row = 0;
  for (isize c = 0; c < g.input_channels; ++c)
    for (isize ky = 0; ky < g.kernel(1); ++ky)
      for (isize kx = 0; kx < g.kernel(2); ++kx, ++row) {
        const isize first = std::max<isize>(0, (stride - 1 - g.source(2, 0, kx)) / stride);
        const isize end = std::min(g.output(2), (width - 1 - g.source(2, 0, kx)) / stride + 1);
        for (isize oy = 0; oy < g.output(1); ++oy) {
          const isize y = g.source(1, oy, ky);
          if (y < 0 || y >= height || end <= first) continue;
          f(row, oy * g.output(2) + first, (c * height + y) * width + g.source(2, first, kx), end - first);
        }
      }
}

/// Patches of one sample, [weights of an output channel x output positions]; `to` has zeros where padding is.
inline void write_patches(const dpopt::convolution_geometry& g, const float* x, matrix& to) {
  const isize positions = g.output_positions(), stride = g.stride[1];
  float* const out = to.data();
  for_each_run(g, [=](isize row, isize t, isize from, isize count) {
    float* const write = out + row * positions + t;
    if (stride == 1) std::copy_n(x + from, count, write);
    else
      for (isize k = 0; k < count; ++k) write[k] = x[from + k * stride];
  });
}

/// y = W * patches(x) + b; a sample a row of [channels x pixels].
class convolution {
public:
  convolution(parameter_list& all, const std::string& name, isize samples, const dpopt::convolution_geometry& g)
      : y(matrix::Zero(samples, g.output_channels * g.output_positions())), e(y), geometry(g), all_(&all),
        patches_(matrix::Zero(g.columns(), g.output_positions())),
        weight_(all.add(name + ".weight", g.output_channels * g.columns(),
                        std::sqrt(3.0F / static_cast<float>(g.columns())))),
        bias_(all.add(name + ".bias", g.output_channels, 0.0F)) {}

  matrix y; ///< output; an activation function may be applied in place
  matrix e; ///< derivative of the loss by the output before that
  dpopt::convolution_geometry geometry;

  void forward(const matrix& x) {
    const Eigen::Map<const Eigen::VectorXf> shift(all_->data(bias_), geometry.output_channels);
    for (isize i = 0; i < x.rows(); ++i) {
      write_patches(geometry, x.row(i).data(), patches_);
      matrix_view out(y.row(i).data(), geometry.output_channels, geometry.output_positions());
      out.noalias() = weight() * patches_;
      out.colwise() += shift;
    }
  }

  template <class Visit>
  void backward(const matrix& x, const Visit& visit) {
    visit(weight_, convolution_use{x.data(), e.data(), x.rows(), geometry});
    visit(bias_, shift_use{e.data(), dpopt::channel_layout::channels_first(x.rows(), geometry.output_channels,
                                                                           geometry.output_positions())});
  }

  /// to = derivative by the input.
  void propagate(matrix& to) {
    to.setZero();
    matrix of_patches(patches_.rows(), patches_.cols());
    for (isize i = 0; i < to.rows(); ++i) {
      const_matrix_view from(e.row(i).data(), geometry.output_channels, geometry.output_positions());
      of_patches.noalias() = weight().transpose() * from;
      const float* const read = of_patches.data();
      float* const out = to.row(i).data();
      for_each_run(geometry, [=, n = of_patches.cols(), stride = isize{geometry.stride[1]}](isize row, isize t,
                                                                                            isize pixel, isize count) {
        for (isize k = 0; k < count; ++k) out[pixel + k * stride] += read[row * n + t + k];
      });
    }
  }

  [[nodiscard]] isize numbers() const { return y.size() + e.size() + patches_.size(); }

private:
  [[nodiscard]] const_matrix_view weight() const {
    return {all_->data(weight_), geometry.output_channels, geometry.columns()};
  }

  parameter_list* all_;
  matrix patches_; // of one sample; padding stays 0
  isize weight_, bias_;
};

} // namespace bench
