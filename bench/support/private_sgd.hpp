// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The private step of a network (see network.hpp).
#pragma once

#include "dpopt/accounting/no_accountant.hpp"
#include "dpopt/clipping/flat.hpp"
#include "dpopt/clipping/per_layer.hpp"
#include "dpopt/dp_optimizer/dp_optimizer.hpp"

#include "support/network.hpp"
#include "support/sources.hpp"

#include <type_traits>
#include <vector>

namespace bench {

inline constexpr double learning_rate = 0.01;

[[nodiscard]] inline std::vector<dpopt::parameter_view<float>> views_of(parameter_list& all) {
  std::vector<dpopt::parameter_view<float>> views;
  for (isize p = 0; p < all.count(); ++p) views.push_back({all[p].name, all[p].values, {}});
  return views;
}

/// Sources: factored, without_rows<factored> or materialized.
template <class Network, class Sources, class Clipper>
class private_sgd {
public:
  explicit private_sgd(Network& network, double bound = 1.0, double multiplier = 1.0)
      : network_(network), sources_(std::is_same_v<Clipper, dpopt::flat>),
        optimizer_(views_of(network.parameters()), dpopt::dp_options{}, Clipper{bound},
                   dpopt::sgd{.learning_rate = learning_rate}, dpopt::counter_gaussian{.noise_multiplier = multiplier},
                   dpopt::no_accountant{}, dpopt::expected_batch{static_cast<double>(network.batch())}) {
    if constexpr (requires { Sources::keeps_no_rows; }) optimizer_.keep_rows(0);
  }

  void step() {
    network_.forward();
    optimizer_.begin({.samples = network_.batch()});
    network_.backward(1.0F, [&](isize p, const auto& use) {
      sources_(p, use, [&](const auto& source) { optimizer_.gradient_ready(p, source); });
    });
    optimizer_.step();
  }

private:
  Network& network_;
  Sources sources_;
  dpopt::dp_optimizer<float, Clipper, dpopt::sgd, dpopt::counter_gaussian, dpopt::no_accountant, dpopt::expected_batch>
      optimizer_;
};

} // namespace bench
