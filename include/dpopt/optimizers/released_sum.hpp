// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The released gradient of a tile before anybody has stored it: an update may take it right from the noisy sum, which
/// saves a loop and an array.
#pragma once

#include "dpopt/core/platform.hpp"
#include "dpopt/core/types.hpp"

#include <cmath>
#include <concepts>
#include <cstring>

namespace dpopt {

/// Number i of the released gradient is sum[i] / divisor, the sum with its noise. Dividing takes as long as a whole
/// update of sgd: where the inverse of the divisor is exact, `Divided` is false and `scale` is that.
template <std::floating_point T, bool Divided>
struct released_sum {
  T* sum;
  T scale;
};

/// f(released_sum) with the one of the two kinds that fits the divisor. Bits are those of the quotient.
template <std::floating_point T, class F>
void with_released_sum(T* sum, T divisor, const F& f) {
  int exponent = 0;
  const bool power_of_two = std::frexp(divisor, &exponent) == T(0.5);
  if (power_of_two && std::isnormal(1 / divisor)) f(released_sum<T, false>{sum, 1 / divisor});
  else f(released_sum<T, true>{sum, divisor});
}

namespace detail {

/// out = numbers i, i + 1, ... of a gradient; W is T, or a vector of them.
template <class T, class W>
DPOPT_FORCE_INLINE inline void read_gradient(const T* gradient, isize i, W& out) {
  if constexpr (std::same_as<W, T>) out = gradient[i]; // what compilers turn into vectors
  else std::memcpy(&out, gradient + i, sizeof(W));
}

/// The same for the last time: the sum is left at zero.
template <class T, bool Divided, class W>
DPOPT_FORCE_INLINE DPOPT_NO_CONTRACT inline void read_gradient(const released_sum<T, Divided>& gradient, isize i,
                                                               W& out) {
  read_gradient(gradient.sum, i, out);
  if constexpr (std::same_as<W, T>) {
    gradient.sum[i] = T{};
  } else {
    const W zero = {};
    std::memcpy(gradient.sum + i, &zero, sizeof(W));
  }
  if constexpr (Divided) out = out / gradient.scale;
  else out = out * gradient.scale;
}

} // namespace detail

/// An elementwise optimizer whose update() takes a released_sum in the place of g, and says so: it reads each number
/// once, since the second time it is zero. Optional. A template that takes any g says nothing, so it gets a pointer.
template <class Constants, class T, class Slots>
concept TakesReleasedSum = Constants::takes_released_sum && requires(const Constants& c, T* x, released_sum<T, true> g,
                                                                     const Slots& s, isize n) { c.update(x, g, s, n); };

} // namespace dpopt
