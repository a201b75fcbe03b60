// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// How one reduced number becomes a released one, as dp_optimizer/release.hpp does it, in a form that kernels take.
///
///     (sum x unit + N(0, noise_std^2)) / divisor
///
/// Noise is drawn in the sum's type, on the integer grid in double. The order of the three operations is the CPU's for
/// each kind of sum, and so are the bits.
#pragma once

#include "dpopt/core/platform.hpp"
#include "dpopt/cuda/gaussian_stream.hpp"
#include "dpopt/dp_optimizer/release.hpp"
#include "dpopt/noise/counter_gaussian.hpp"

#include <concepts>
#include <cstdint>
#include <type_traits>

namespace dpopt::cuda {

/// What noise on sums of type V is drawn in.
template <class V>
using noise_type_of = std::conditional_t<std::floating_point<V>, V, double>;

/// The constants of one release of sums of type V to gradients of type T; crosses into kernels by value. Holds the key.
template <class V>
struct release_terms {
  gaussian_stream<noise_type_of<V>> stream;
  double unit;
  double divisor;
  bool noisy; ///< false: noise was added before, or none is wanted

  /// @param normal the element's number; ignored when nothing is drawn.
  template <std::floating_point T>
  [[nodiscard]] DPOPT_FORCE_INLINE DPOPT_NO_CONTRACT DPOPT_DEVICE T released(V sum, noise_type_of<V> normal) const {
    DPOPT_NO_CONTRACT_BLOCK
    if constexpr (std::is_same_v<V, T>) {
      if (noisy) sum = sum + stream.scale * normal;
      return sum / static_cast<T>(divisor);
    } else if constexpr (std::floating_point<V>) {
      if (noisy) sum = sum + stream.scale * normal;
      return static_cast<T>(static_cast<double>(sum) * unit / divisor);
    } else {
      double real = static_cast<double>(sum) * unit;
      if (noisy) real = real + stream.scale * normal;
      return static_cast<T>(real / divisor);
    }
  }
};

static_assert(std::is_trivially_copyable_v<release_terms<float>>);

/// The terms of a step whose noise is drawn while releasing. T is the type of values and gradients.
/// @param where purpose, lane and step. @throw state_error, randomness_error as stream_of(); never without noise.
template <class V, std::floating_point T>
[[nodiscard]] release_terms<V> release_terms_of(const counter_gaussian& noise, const address& where,
                                                const release_constants& k) {
  constexpr bool in_units = std::floating_point<V> && !std::is_same_v<V, T>;
  release_terms<V> out{.stream = {}, .unit = k.unit, .divisor = k.divisor, .noisy = k.noise_std > 0};
  if (out.noisy) out.stream = stream_of<noise_type_of<V>>(noise, where, in_units ? k.noise_std / k.unit : k.noise_std);
  return out;
}

/// The terms of a step whose noise is in the sums already: k.noise_std is not looked at.
template <class V>
[[nodiscard]] release_terms<V> release_terms_without_noise(const release_constants& k) {
  return {.stream = {}, .unit = k.unit, .divisor = k.divisor, .noisy = false};
}

} // namespace dpopt::cuda
