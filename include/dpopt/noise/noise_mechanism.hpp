// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The NoiseMechanism role: what is added, once a step, to the reduced sum of clipped per-sample gradients.
///
/// Satisfied by counter_gaussian (default), secure_gaussian and hardened_gaussian (dpopt::sodium), seed_gaussian,
/// sequential_gaussian, and correlated around one of them. Privacy contract: `add(where, std, x, n)` adds independent
/// noise to each x[i], N(0, std^2) or the kind that the mechanism names; two calls with addresses that differ in any
/// field (CorrelatedNoise: in any but the step) draw independent numbers; std is already multiplier x sensitivity in
/// units of x.
#pragma once

#include "dpopt/core/types.hpp"

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>

namespace dpopt {

/// What the random numbers are for; part of the stream's key, so that no two uses can share a number.
enum class purpose : std::uint8_t { gradient = 1, side_scalars = 2, sampling = 3 };

/// Where in the stream a number stands. `lane` is the rank for independent shares and 0 for everything that all ranks
/// draw alike; `element` is the index within the parameter. Nothing here depends on rank count, buckets or threads.
struct address {
  purpose what = purpose::gradient;
  std::uint32_t lane = 0;
  std::uint64_t step = 0;
  std::uint32_t parameter = 0;
  std::uint64_t element = 0;
};

/// Adds noise of a given standard deviation to numbers of type V.
template <class N, class V>
concept NoiseMechanism = requires(N n, const N k, const address& where, double std_in_units, V* x, isize count) {
  { k.multiplier() } -> std::same_as<double>; // std of the noise over the sensitivity; 0 is "no privacy"
  n.validate();                               // throws invalid_argument on a non-finite or negative multiplier
  n.add(where, std_in_units, x, count);       // x[i] += N(0, std_in_units^2), element where.element + i
};

/// The law of N's noise: Gaussian unless it says otherwise.
template <class N>
inline constexpr noise_kind noise_kind_of = [] {
  if constexpr (requires { N::kind; }) return N::kind;
  else return noise_kind::gaussian;
}();

/// Integer noise, which is added to an integer sum and to nothing else.
template <class N>
concept DiscreteNoise = noise_kind_of<N> == noise_kind::discrete_gaussian;

/// A mechanism whose numbers are a pure function of (secret, address): any rank can draw any part, in any order.
template <class N>
concept AddressableNoise = requires { requires N::addressable; };

/// Noise that depends on that of earlier releases: one Gaussian mechanism over a declared run. Satisfied by correlated.
///
/// Privacy contract: multiplier() is the std of the numbers underneath over the sensitivity of one release; the
/// releases of a run together cost one Gaussian mechanism with run_multiplier(), without amplification by sampling. A
/// release is one row: start_row() opens the next, and add() adds the noise of the open row in any split. add() may be
/// called after the reduction only, since a row cannot be taken back.
template <class N>
concept CorrelatedNoise = requires(N n, const N k, std::span<const isize> sizes, isize side_scalars,
                                   std::uint64_t step) {
  n.bind(sizes, side_scalars); // once, after validate(): elements of each parameter, numbers of purpose side_scalars
  n.require_row(step);         // throws what start_row(step) would, changing nothing: more rows than declared, ...
  n.start_row(step);           // a release will follow for certain; `step` was never used before
  { k.run_multiplier() } -> std::same_as<double>;
  { k.row_norm() } -> std::same_as<double>; // std of the open row's numbers over that of the numbers underneath
};

/// A mechanism whose ranks must share a secret: the root draws it (`draw_secret`), everyone gets a copy of the bytes.
/// One with a user's seed has `renew_secret` besides, which makes a secret of it that no earlier start had: resume().
template <class N>
concept SharesSecret = requires(N n, const N k) {
  n.draw_secret();                                      // root only; a no-op when the user gave a seed
  { n.secret() } -> std::same_as<std::span<std::byte>>; // fixed length on every rank; never print it
  { k.reproducible() } -> std::same_as<bool>;           // true when a user-given seed makes the noise predictable
};

} // namespace dpopt
