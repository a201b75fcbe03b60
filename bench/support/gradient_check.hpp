// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Whether a network of the whole-step benchmark is differentiated rightly, so that its figures speak of real training.
#pragma once

#include "support/plain_sgd.hpp"
#include "support/private_sgd.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

namespace bench {

/// Derivatives of the mean loss along the same directions, by backward and by central differences.
struct derivatives {
  double backward = 0, differences = 0; ///< root mean square
  std::string problem;                  ///< names the first parameter where they differ by more than rounding explains
};

/// For each parameter the direction of its gradient and two of random signs.
template <class Network>
[[nodiscard]] derivatives check_gradients(Network& network) {
  constexpr float length = 5e-4F; // longer, and kinks of ReLU would show; shorter, and the loss's rounding would
  plain_sgd<Network> trainer(network);
  const std::vector<std::vector<float>> gradients = trainer.differentiate();
  derivatives out;
  isize probes = 0;
  for (isize p = 0; p < network.parameters().count(); ++p) {
    parameter& one = network.parameters()[p];
    Eigen::Map<row_vector> values(one.values.data(), one.size());
    const Eigen::Map<const row_vector> gradient(gradients[static_cast<std::size_t>(p)].data(), one.size());
    const row_vector kept = values;
    for (int probe = 0; probe < 3; ++probe, ++probes) {
      row_vector direction = gradient;
      if (probe > 0) direction = row_vector::Random(one.size()).array().sign();
      direction *= 1 / std::max(direction.norm(), 1e-12F);
      double losses[2];
      for (const int side : {0, 1}) {
        values = kept + (side == 0 ? -length : length) * direction;
        network.forward();
        losses[side] = network.loss() / static_cast<double>(network.batch());
      }
      values = kept;
      const double ours = gradient.cast<double>().dot(direction.cast<double>());
      const double theirs = (losses[1] - losses[0]) / (2 * static_cast<double>(length));
      out.backward += ours * ours;
      out.differences += theirs * theirs;
      // Measured: up to a thousandth of the gradient, and 1.6e-4 from rounding of the loss in float.
      if (!(std::abs(ours - theirs) <= 0.01 * static_cast<double>(gradient.norm()) + 5e-4) && out.problem.empty())
        out.problem = one.name + ": derivative " + std::to_string(ours) + ", by differences " + std::to_string(theirs);
    }
  }
  out.backward = std::sqrt(out.backward / static_cast<double>(probes));
  out.differences = std::sqrt(out.differences / static_cast<double>(probes));
  return out;
}

/// Norms of the first step's change of all parameters.
struct changes {
  double ours = 0, plain = 0;
  std::string problem; ///< names the first parameter that changed otherwise
};

/// A private step that clips nothing and adds no noise, beside the plain step.
template <class Sources, class Clipper, class Network, class Shape>
[[nodiscard]] changes check_private_step(const Shape& shape) {
  Network start(shape), one(shape), other(shape);
  private_sgd<Network, Sources, Clipper>(one, 1e30, 0.0).step();
  plain_sgd<Network>(other).step(static_cast<float>(learning_rate));
  changes out;
  for (isize p = 0; p < start.parameters().count(); ++p) {
    const auto change = [&](Network& to) {
      const isize n = start.parameters()[p].size();
      return row_vector(Eigen::Map<const row_vector>(to.parameters().data(p), n) -
                        Eigen::Map<const row_vector>(start.parameters().data(p), n));
    };
    const row_vector ours = change(one), plain = change(other);
    out.ours += ours.cast<double>().squaredNorm();
    out.plain += plain.cast<double>().squaredNorm();
    // A change is a difference of numbers up to 1, each rounded by up to 6e-8.
    const double allowed =
        1e-3 * static_cast<double>(plain.norm()) + 1.2e-7 * std::sqrt(static_cast<double>(plain.size()));
    if (!(static_cast<double>((ours - plain).norm()) <= allowed) && out.problem.empty())
      out.problem = start.parameters()[p].name + " is changed otherwise than by the plain step";
  }
  out.ours = std::sqrt(out.ours);
  out.plain = std::sqrt(out.plain);
  return out;
}

} // namespace bench
