// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The accumulators of the core on the device: the plain sum and the integer grid.
#pragma once

#include "dpopt/accumulation/integer_grid.hpp"
#include "dpopt/cuda/device_gradients.hpp"

#include <cmath>
#include <concepts>
#include <cstdint>
#include <string>
#include <type_traits>

namespace dpopt::cuda {

/// Sums in V, equal to the core's running_sum but for the order of additions.
template <std::floating_point V>
struct running_sum {
  using role = dpopt::roles::accumulator;
  using value_type = V;

  void bind(double) noexcept {}
  [[nodiscard]] double unit() const noexcept { return 1; }
  [[nodiscard]] std::string describe() const {
    return std::is_same_v<V, float> ? "cuda::running_sum(float)" : "cuda::running_sum(double)";
  }

  template <class D, DeviceGradients<D, V> S>
  void add(device_work<D>& on, const S& source, const double* factors, V* at) const {
    source.add_weighted_sum(on, factors, at);
  }
  /// Of many_parameters.
  template <class D, class Many>
  void add_many(device_work<D>& on, const Many& parameters) const {
    parameters.add_weighted_sums(on);
  }
};

/// The core's integer_grid with its sums on the device: the same bits, for any order of samples, blocks and ranks.
class integer_grid {
public:
  using role = dpopt::roles::accumulator;
  using value_type = std::int64_t;

  explicit integer_grid(int fraction_bits = 36, double max_units = 67108864.0)
      : rules_(fraction_bits, max_units), limit_(std::ldexp(1.0, fraction_bits)) {}

  void bind(double largest_norm) { rules_.resize(0, largest_norm); }
  [[nodiscard]] double unit() const noexcept { return rules_.unit(); }
  [[nodiscard]] std::string describe() const { return "cuda::" + rules_.describe(); }

  template <class D, GridGradients<D> S>
  void add(device_work<D>& on, const S& source, const double* factors, value_type* at) const {
    source.add_grid_sum(on, factors, scale(), at);
  }
  template <class D, class Many>
  void add_many(device_work<D>& on, const Many& parameters) const {
    parameters.add_grid_sums(on, scale());
  }

private:
  [[nodiscard]] grid_scale scale() const noexcept { return {1 / unit(), limit_}; }

  dpopt::integer_grid rules_; // of no numbers: it checks and computes the unit
  double limit_;
};

static_assert(DeviceAccumulator<running_sum<float>> && DeviceAccumulator<running_sum<double>>);
static_assert(DeviceAccumulator<integer_grid>);

} // namespace dpopt::cuda
