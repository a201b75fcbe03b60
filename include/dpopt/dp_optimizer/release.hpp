// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The stages after the reduction, on a tile that stays in L1: noise once, scale once; and the loop over tiles.
#pragma once

#include "dpopt/core/parallel.hpp"
#include "dpopt/core/platform.hpp"
#include "dpopt/core/types.hpp"
#include "dpopt/core/vector_dispatch.hpp"
#include "dpopt/noise/noise_mechanism.hpp"
#include "dpopt/optimizers/released_sum.hpp"

#include <algorithm>
#include <concepts>
#include <type_traits>

namespace dpopt {

/// Elements of a tile: in float, sum, gradient, values and optimizer state of it fit a 32 KiB first-level cache
/// together.
inline constexpr isize release_tile_elements = 1024;

/// How a reduced sum becomes a released gradient.
struct release_constants {
  double unit = 1;      ///< gradient units per unit of the sum
  double noise_std = 0; ///< in gradient units, on the sum; 0 adds nothing (someone added it before the reduction)
  double divisor = 1;
};

/// Whether tiles may be released in any order, also at the same time on several threads: the noise is a function of its
/// address, and drawing it changes nothing in the mechanism.
template <class N, class V>
concept ThreadedNoise =
    AddressableNoise<N> && !CorrelatedNoise<N> && requires(const N& n, const address& where, V* x, double* y, isize k) {
      requires requires { n.add(where, 1.0, x, k); } || requires { n.add(where, 1.0, y, k); };
    };

/// f(first, count) for the tiles of n elements; on threads when the noise is fit for it and there are some (OpenMP).
template <class N, class V, class F>
void for_each_release_tile(isize n, const F& f) {
  const auto tile = [&](isize k) {
    const isize first = k * release_tile_elements;
    f(first, std::min(release_tile_elements, n - first));
  };
  const isize tiles = n / release_tile_elements + (n % release_tile_elements == 0 ? 0 : 1);
  if constexpr (ThreadedNoise<N, V>) {
    parallel_pieces(tiles, tile);
  } else {
    for (isize k = 0; k < tiles; ++k) tile(k);
  }
}

namespace detail {

/// A number of the sum for the last time: it is left at zero.
template <class V>
DPOPT_FORCE_INLINE inline V take(V& sum) {
  const V out = sum;
  sum = V{};
  return out;
}

/// f(released_sum) after the noise was added, for sums in the parameters' type.
template <std::floating_point T, class N, class F>
void with_noisy_sum(T* sum, isize count, const address& where, const release_constants& k, N& noise, const F& f) {
  if (k.noise_std > 0) noise.add(where, k.noise_std, sum, count);
  with_released_sum(sum, static_cast<T>(k.divisor), f);
}

} // namespace detail

/// out[i] = (sum[i] x unit + N(0, noise_std^2)) / divisor. Leaves the sum at zero, ready for the next step, so that a
/// released gradient never shares memory with the accumulator. count <= release_tile_elements.
template <std::floating_point T, class V, class N>
void release_tile(V* sum, isize count, const address& where, const release_constants& k, N& noise, T* out) {
  if constexpr (std::is_same_v<V, T>) {
    detail::with_noisy_sum(sum, count, where, k, noise, [=](auto gradient) {
      vectorized([=]() DPOPT_FORCE_INLINE_LAMBDA {
        for (isize i = 0; i < count; ++i) detail::read_gradient(gradient, i, out[i]);
      });
    });
  } else if constexpr (NoiseMechanism<N, V>) {
    if (k.noise_std > 0) noise.add(where, k.noise_std / k.unit, sum, count);
    vectorized([=, unit = k.unit, divisor = k.divisor]() DPOPT_FORCE_INLINE_LAMBDA {
      for (isize i = 0; i < count; ++i)
        out[i] = static_cast<T>(static_cast<double>(detail::take(sum[i])) * unit / divisor);
    });
  } else {
    double real[release_tile_elements];
    for (isize i = 0; i < count; ++i) real[i] = static_cast<double>(sum[i]) * k.unit;
    if (k.noise_std > 0) noise.add(where, k.noise_std, real, count);
    for (isize i = 0; i < count; ++i) {
      static_cast<void>(detail::take(sum[i]));
      out[i] = static_cast<T>(real[i] / k.divisor);
    }
  }
}

/// x[i] is updated with number i of that release, which is stored nowhere; bits are those of release_tile() and
/// update() one after the other. For mechanisms that add noise in T, and constants that take a released_sum.
template <std::floating_point T, class N, class Constants, class Slots>
void release_into_update(T* sum, isize count, const address& where, const release_constants& k, N& noise,
                         const Constants& of_base, T* x, const Slots& slots) {
  detail::with_noisy_sum(sum, count, where, k, noise,
                         [&](auto gradient) { of_base.update(x, gradient, slots, count); });
}

} // namespace dpopt
