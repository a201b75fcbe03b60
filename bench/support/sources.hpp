// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The two ways in which a network's per-sample gradients reach an optimizer: as factors, or written out.
#pragma once

#include "dpopt/eigen/eigen_product.hpp"
#include "dpopt/gradients/bias.hpp"
#include "dpopt/gradients/convolution_weight.hpp"
#include "dpopt/gradients/linear_sequence.hpp"
#include "dpopt/gradients/linear_weight.hpp"
#include "dpopt/gradients/materialized.hpp"
#include "dpopt/gradients/normalization_weight.hpp"
#include "dpopt/gradients/product.hpp"

#include "support/plain_sgd.hpp"

#include <cstddef>
#include <vector>

namespace bench {

/// Views of what the layer has. A source goes to ready(source).
template <class Product>
struct factored_with {
  explicit factored_with(bool /*keep*/) {}

  template <class Ready>
  void operator()(isize, const linear_use& u, const Ready& ready) const {
    if (u.positions == 1) ready(dpopt::linear_weight<float, Product>{u.a, u.e, u.samples, u.inputs, u.outputs});
    else ready(dpopt::linear_sequence<float, Product>{u.a, u.e, u.samples, u.positions, u.inputs, u.outputs});
  }
  template <class Ready>
  void operator()(isize, const convolution_use& u, const Ready& ready) const {
    ready(dpopt::convolution_weight<float, Product>(u.x, u.e, u.samples, u.geometry));
  }
  template <class Ready>
  void operator()(isize, const shift_use& u, const Ready& ready) const {
    if (u.layout.positions == 1) ready(dpopt::materialized(u.e, u.layout.batch, u.layout.channels));
    else ready(dpopt::bias(u.e, u.layout));
  }
  template <class Ready>
  void operator()(isize, const gain_use& u, const Ready& ready) const {
    ready(dpopt::normalization_weight(u.normalized, u.e, u.layout));
  }
};

/// By the product that the plain step uses, for what the plain step is compared with.
using factored = factored_with<dpopt::eigen::eigen_product>;
/// By the default one, as a user has it.
using factored_by_default = factored_with<dpopt::portable_product>;

/// The same, with no rows written for a shared norm: keep_rows(0).
template <class Factored>
struct without_rows : Factored {
  using Factored::Factored;
  static constexpr bool keeps_no_rows = true;
};

/// A row a sample, written before the optimizer sees it: the batch's gradient of each sample by itself.
class materialized {
public:
  /// @param keep rows of all parameters until the step's end, else of one at a time.
  explicit materialized(bool keep) : keep_(keep) {}

  template <class Ready>
  void operator()(isize p, const linear_use& u, const Ready& ready) {
    write(p, u.samples, u.inputs * u.outputs, ready, [&](isize i) {
      return linear_use{
          u.a + i * u.positions * u.inputs, u.e + i * u.positions * u.outputs, 1, u.positions, u.inputs, u.outputs};
    });
  }
  template <class Ready>
  void operator()(isize p, const convolution_use& u, const Ready& ready) {
    const dpopt::convolution_geometry& g = u.geometry;
    write(p, u.samples, g.output_channels * g.columns(), ready, [&](isize i) {
      return convolution_use{u.x + i * g.input_channels * g.input_positions(),
                             u.e + i * g.output_channels * g.output_positions(), 1, g};
    });
  }
  template <class Ready>
  void operator()(isize p, const shift_use& u, const Ready& ready) {
    if (u.layout.positions == 1) ready(dpopt::materialized(u.e, u.layout.batch, u.layout.channels));
    else
      write(p, u.layout.batch, u.layout.channels, ready, [&](isize i) {
        return shift_use{u.e + i * u.layout.sample_stride, one_of(u.layout)};
      });
  }
  template <class Ready>
  void operator()(isize p, const gain_use& u, const Ready& ready) {
    write(p, u.layout.batch, u.layout.channels, ready, [&](isize i) {
      const isize at = i * u.layout.sample_stride;
      return gain_use{u.normalized + at, u.e + at, one_of(u.layout)};
    });
  }

private:
  [[nodiscard]] static dpopt::channel_layout one_of(dpopt::channel_layout layout) {
    layout.batch = 1;
    return layout;
  }

  template <class Ready, class Sample>
  void write(isize p, isize samples, isize size, const Ready& ready, const Sample& sample) {
    const auto at = static_cast<std::size_t>(keep_ ? p : 0);
    if (rows_.size() <= at) rows_.resize(at + 1);
    std::vector<float>& rows = rows_[at];
    if (std::ssize(rows) < samples * size) {
      rows.clear(); // nothing to copy
      rows.resize(static_cast<std::size_t>(samples * size));
    }
    for (isize i = 0; i < samples; ++i) batch_gradient{rows.data() + i * size}(sample(i));
    ready(dpopt::materialized(static_cast<const float*>(rows.data()), samples, size));
  }

  bool keep_;
  std::vector<std::vector<float>> rows_;
};

} // namespace bench
