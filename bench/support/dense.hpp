// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// A dense layer in Eigen, applied to every position of every sample.
#pragma once

#include "support/network.hpp"

#include <cmath>
#include <string>

namespace bench {

/// y = a W^T + b, rows are (sample, position).
class dense {
public:
  dense(parameter_list& all, const std::string& name, isize samples, isize positions, isize inputs, isize outputs)
      : y(matrix::Zero(samples * positions, outputs)), e(matrix::Zero(samples * positions, outputs)), all_(&all),
        samples_(samples), positions_(positions), inputs_(inputs), outputs_(outputs),
        weight_(all.add(name + ".weight", inputs * outputs, std::sqrt(3.0F / static_cast<float>(inputs)))),
        bias_(all.add(name + ".bias", outputs, 0.0F)) {}

  matrix y; ///< output; an activation function may be applied in place
  matrix e; ///< derivative of the loss by the output before that

  void forward(const matrix& a) {
    y.noalias() = a * weight().transpose();
    y.rowwise() += Eigen::Map<const row_vector>(all_->data(bias_), outputs_);
  }

  template <class Visit>
  void backward(const matrix& a, const Visit& visit) {
    visit(weight_, linear_use{a.data(), e.data(), samples_, positions_, inputs_, outputs_});
    visit(bias_, shift_use{e.data(), dpopt::channel_layout::channels_last(samples_, positions_, outputs_)});
  }
  void propagate(matrix& to) const { to.noalias() = e * weight(); }
  void add_propagated(matrix& to) const { to.noalias() += e * weight(); }

  [[nodiscard]] isize numbers() const { return y.size() + e.size(); }

private:
  [[nodiscard]] const_matrix_view weight() const { return {all_->data(weight_), outputs_, inputs_}; }

  parameter_list* all_;
  isize samples_, positions_, inputs_, outputs_;
  isize weight_, bias_;
};

} // namespace bench
