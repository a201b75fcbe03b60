// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// LayerNorm over the width of each position (Ba et al. 2016, arXiv 1607.06450), in Eigen.
#pragma once

#include "support/network.hpp"

#include <algorithm>
#include <cmath>
#include <string>

namespace bench {

/// y = gain * (x - mean) / deviation + shift; rows are (sample, position).
class layer_norm {
public:
  layer_norm(parameter_list& all, const std::string& name, isize samples, isize positions, isize width)
      : y(matrix::Zero(samples * positions, width)), e(y), all_(&all), normalized_(y),
        inverse_deviations_(row_vector::Zero(samples * positions)),
        layout_(dpopt::channel_layout::channels_last(samples, positions, width)),
        gain_(all.add(name + ".weight", width, 0.0F)), shift_(all.add(name + ".bias", width, 0.0F)) {
    std::fill(all[gain_].values.begin(), all[gain_].values.end(), 1.0F);
  }

  matrix y;
  matrix e; ///< derivative of the loss by y

  void forward(const matrix& x) {
    const auto gain = of(gain_).array(), shift = of(shift_).array();
    for (isize r = 0; r < x.rows(); ++r) {
      auto n = normalized_.row(r);
      n = x.row(r).array() - x.row(r).mean();
      inverse_deviations_(r) = 1.0F / std::sqrt(n.squaredNorm() / static_cast<float>(x.cols()) + 1e-5F);
      n *= inverse_deviations_(r);
      y.row(r) = n.array() * gain + shift;
    }
  }

  template <class Visit>
  void backward(const Visit& visit) {
    visit(gain_, gain_use{normalized_.data(), e.data(), layout_});
    visit(shift_, shift_use{e.data(), layout_});
  }

  /// to += derivative by x.
  void add_propagated(matrix& to) {
    const auto gain = of(gain_).array();
    row_vector d(e.cols());
    for (isize r = 0; r < e.rows(); ++r) {
      const auto n = normalized_.row(r).array();
      d = e.row(r).array() * gain;
      const float mean = d.mean(), along = d.dot(normalized_.row(r)) / static_cast<float>(d.cols());
      to.row(r).array() += inverse_deviations_(r) * (d.array() - mean - along * n);
    }
  }

  [[nodiscard]] isize numbers() const { return y.size() + e.size() + normalized_.size() + inverse_deviations_.size(); }

private:
  [[nodiscard]] Eigen::Map<const row_vector> of(isize p) const { return {all_->data(p), layout_.channels}; }

  parameter_list* all_;
  matrix normalized_;
  row_vector inverse_deviations_;
  dpopt::channel_layout layout_;
  isize gain_, shift_;
};

} // namespace bench
