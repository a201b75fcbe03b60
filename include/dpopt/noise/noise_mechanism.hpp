// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The NoiseMechanism role: what is added, once a step, to the reduced sum of clipped per-sample gradients.
///
/// Satisfied by counter_gaussian (default), secure_gaussian (dpopt::sodium), seed_gaussian, sequential_gaussian.
/// Privacy contract: `add(where, std, x, n)` adds independent N(0, std^2) to each x[i]; two calls with addresses that
/// differ in any field draw independent numbers; std is already multiplier x sensitivity in units of x.
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

/// A mechanism whose numbers are a pure function of (secret, address): any rank can draw any part, in any order.
template <class N>
concept AddressableNoise = requires {
  requires N::addressable;
};

/// A mechanism whose ranks must share a secret: the root draws it (`draw_secret`), everyone gets a copy of the bytes.
template <class N>
concept SharesSecret = requires(N n, const N k) {
  n.draw_secret(); // root only; a no-op when the user gave a seed
  { n.secret() } -> std::same_as<std::span<std::byte>>; // fixed length on every rank; never print it
  { k.reproducible() } -> std::same_as<bool>;           // true when a user-given seed makes the noise predictable
};

} // namespace dpopt
