// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// training.hpp on the host: the optimizer reads the network's matrices where they are.
#include "training.hpp"

#include <dpopt/dpopt.hpp>
#include <dpopt/eigen/eigen.hpp>
#include <dpopt/mpi/mpi.hpp>

#include <cstddef>
#include <vector>

namespace digits {
namespace {

class host {
public:
  explicit host(mlp& net) {
    for (std::size_t l = 0; l < net.layers(); ++l)
      parameters_.push_back(dpopt::eigen::parameter(net.name(l), net.weight(l)));
  }

  /// COLLECTIVE. @throw dpopt::error, alike on all ranks.
  [[nodiscard]] auto optimizer(const privacy& p) const {
    dpopt::per_layer_options options{.noise_multiplier = p.noise_multiplier,
                                     .max_grad_norm = p.bounds,
                                     .expected_batch_size = p.expected_batch_size,
                                     .secure_mode = p.secure_mode};
    if (p.seed) options.generator = dpopt::philox_generator{*p.seed};
    return dpopt::distributed_per_layer_optimizer(parameters_, dpopt::adam{.learning_rate = p.learning_rate}, options,
                                                  dpopt::mpi(MPI_COMM_WORLD));
  }

  template <class Optimizer>
  void linear_ready(Optimizer& optimizer, dpopt::isize p, const matrix& activations, const matrix& errors) const {
    optimizer.gradient_ready(p, dpopt::eigen::linear<matrix>(activations, errors));
  }
  template <class Optimizer>
  void materialized_ready(Optimizer& optimizer, dpopt::isize p, const matrix& rows) const {
    optimizer.gradient_ready(p, dpopt::eigen::per_sample(rows));
  }
  void after_step() const {}

protected:
  std::vector<dpopt::parameter_view<float>> parameters_;
};

/// The same with no floating point between the clipped gradients and the release.
class hardened_host : public host {
public:
  using host::host;

  /// COLLECTIVE. @throw dpopt::error, alike on all ranks.
  [[nodiscard]] auto optimizer(const privacy& p) const {
    return dpopt::dp_optimizer(parameters_, dpopt::dp_options{}, dpopt::per_layer{p.bounds}, dpopt::integer_grid{},
                               dpopt::hardened_gaussian{p.noise_multiplier},
                               dpopt::expected_batch{p.expected_batch_size},
                               dpopt::adam{.learning_rate = p.learning_rate}, dpopt::mpi(MPI_COMM_WORLD));
  }
};

} // namespace
} // namespace digits

int main(int argc, char** argv) { return digits::run<digits::host, digits::hardened_host>("digits", argc, argv); }
