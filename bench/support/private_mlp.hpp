// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The private step of the multilayer perceptron in mlp.hpp, with gradients that are factored or written out.
#pragma once

#include "dpopt/accounting/no_accountant.hpp"
#include "dpopt/clipping/flat.hpp"
#include "dpopt/clipping/per_layer.hpp"
#include "dpopt/dp_optimizer/dp_optimizer.hpp"
#include "dpopt/eigen/eigen.hpp"
#include "dpopt/eigen/eigen_product.hpp"

#include "support/mlp.hpp"

#include <algorithm>
#include <cstddef>
#include <type_traits>
#include <vector>

namespace bench {

inline constexpr double learning_rate = 0.01;

/// Room for the per-sample gradients of one layer, or of all.
class written_out {
public:
  written_out(const shape& s, bool all_layers) {
    for (isize l = 0; l < s.layers(); ++l) {
      const isize n = s.batch * s.in(l)*s.out(l);
      at_.push_back(all_layers ? size_ : 0);
      size_ = all_layers ? size_ + n : std::max(size_, n);
    }
    numbers_.resize(static_cast<std::size_t>(size_));
  }

  dpopt::materialized<float> write(isize l, const layer& from) {
    float* const rows = numbers_.data() + at_[static_cast<std::size_t>(l)];
    const isize in = from.a.cols(), out = from.e.cols();
    for (isize i = 0; i < from.a.rows(); ++i)
      Eigen::Map<matrix>(rows + i * in * out, out, in).noalias() = from.e.row(i).transpose() * from.a.row(i);
    return {rows, from.a.rows(), in * out};
  }

private:
  std::vector<isize> at_;
  isize size_ = 0;
  std::vector<float> numbers_;
};

struct factored {
  factored(const shape&, bool) {}
  static auto source(isize, const layer& from) { // the product that the plain step uses
    return dpopt::linear_weight<float, dpopt::eigen::eigen_product>{from.a.data(), from.e.data(), from.a.rows(),
                                                                    from.a.cols(), from.e.cols()};
  }
};
struct materialized {
  materialized(const shape& s, bool all_layers) : memory(s, all_layers) {}
  auto source(isize l, const layer& from) { return memory.write(l, from); }
  written_out memory;
};

[[nodiscard]] inline std::vector<dpopt::parameter_view<float>> views_of(mlp& model) {
  std::vector<dpopt::parameter_view<float>> views;
  for (isize l = 0; l < model.size(); ++l) {
    views.push_back(dpopt::eigen::parameter(model.at(l).weight_name, model.at(l).w));
    views.push_back(dpopt::eigen::parameter(model.at(l).bias_name, model.at(l).b));
  }
  return views;
}

template <class Sources, class Clipper>
class private_sgd {
public:
  explicit private_sgd(mlp& model, double multiplier = 1.0)
      : model_(model), sources_(model.its_shape(), std::is_same_v<Clipper, dpopt::flat>),
        optimizer_(views_of(model), dpopt::dp_options{}, Clipper{1.0}, dpopt::sgd{.learning_rate = learning_rate},
                   dpopt::counter_gaussian{.noise_multiplier = multiplier}, dpopt::no_accountant{},
                   dpopt::expected_batch{static_cast<double>(model.its_shape().batch)}) {}

  void step() {
    model_.forward();
    model_.differentiate_loss(1.0F);
    optimizer_.begin({.samples = model_.its_shape().batch});
    for (isize l = model_.size() - 1; l >= 0; --l) {
      const layer& one = model_.at(l);
      optimizer_.gradient_ready(2 * l, sources_.source(l, one));
      optimizer_.gradient_ready(2 * l + 1, dpopt::eigen::per_sample(one.e));
      if (l > 0) model_.propagate(l);
    }
    optimizer_.step();
  }

private:
  mlp& model_;
  Sources sources_;
  dpopt::dp_optimizer<float, Clipper, dpopt::sgd, dpopt::counter_gaussian, dpopt::no_accountant, dpopt::expected_batch>
      optimizer_;
};

} // namespace bench
