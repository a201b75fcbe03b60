// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Drives one elementwise optimizer over a few steps, whole or in tiles, as step() does.
#pragma once

#include "dpopt/core/types.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <type_traits>
#include <vector>

namespace dpopt::testing {

/// Deterministic numbers of the order of 1 with both signs and different sizes; the last two elements have gradients
/// that are always 0 and always equal.
template <class T>
std::vector<T> replay_gradient(std::size_t n, std::uint64_t step) {
  std::vector<T> g(n);
  for (std::size_t i = 0; i < n; ++i) {
    const double at = 0.7 * static_cast<double>(i) + 1.9 * static_cast<double>(step);
    g[i] = static_cast<T>(std::sin(at) * std::exp(std::cos(0.3 * at)) - 0.2);
  }
  if (n > 1) g[n - 1] = 0, g[n - 2] = static_cast<T>(0.25);
  return g;
}

/// Where every replay starts.
template <class T>
std::vector<T> replay_start(std::size_t n) {
  std::vector<T> x(n);
  for (std::size_t i = 0; i < n; ++i) x[i] = static_cast<T>(std::cos(1.3 * static_cast<double>(i)));
  return x;
}

/// Parameters after each step; at(k) gives the optimizer of step k, so that options can change in between.
template <class T, class At>
std::vector<std::vector<T>> replay(std::size_t n, std::uint64_t steps, At at, isize tile = 0) {
  constexpr std::size_t slots = std::remove_cvref_t<decltype(at(0))>::slots;
  std::vector<T> x = replay_start<T>(n);
  std::array<std::vector<T>, slots> state;
  state.fill(std::vector<T>(n, T{0}));
  std::vector<std::vector<T>> history;
  const isize size = static_cast<isize>(n);
  for (std::uint64_t t = 0; t < steps; ++t) {
    const std::vector<T> g = replay_gradient<T>(n, t);
    for (isize first = 0; first<size; first += tile> 0 ? tile : size) {
      const isize count = tile > 0 ? std::min(tile, size - first) : size;
      std::array<T*, slots> part{};
      for (std::size_t k = 0; k < slots; ++k) part[k] = state[k].data() + first;
      at(t).at(t).update(x.data() + first, g.data() + first, part, count);
    }
    history.push_back(x);
  }
  return history;
}

/// Largest difference between a replay in T and a reference that follows one element: reference(x0, gradients) gives
/// its values after each step. Relative to max(|value|, 1e-2), as values that cross zero keep the rounding of the rest.
template <class T, class B, class Reference>
double worst_difference_to(const B& optimizer, Reference reference) {
  constexpr std::size_t n = 13;
  constexpr std::uint64_t steps = 7;
  const auto ours = replay<T>(n, steps, [&](std::uint64_t) { return optimizer; });
  double worst = 0;
  for (std::size_t i = 0; i < n; ++i) {
    std::vector<long double> g;
    for (std::uint64_t t = 0; t < steps; ++t) g.push_back(replay_gradient<T>(n, t)[i]);
    const std::vector<long double> expected = reference(static_cast<long double>(replay_start<T>(n)[i]), g);
    for (std::size_t t = 0; t < steps; ++t) {
      const double size = std::max(static_cast<double>(std::abs(expected[t])), 1e-2);
      const double difference =
          static_cast<double>(std::abs(static_cast<long double>(ours[t][i]) - expected[t])) / size;
      if (!(difference <= worst)) worst = difference; // keeps a NaN
      if (std::isnan(worst)) return std::numeric_limits<double>::infinity();
    }
  }
  return worst;
}

/// True when tiles of 1, 3, 8 and 1000 elements give the bits of one call for everything.
template <class T, class B>
bool tiles_change_nothing(const B& optimizer) {
  const auto same = [&](std::uint64_t) { return optimizer; };
  const auto whole = replay<T>(203, 5, same);
  for (const isize tile : {1, 3, 8, 1000}) {
    if (replay<T>(203, 5, same, tile) != whole) return false;
  }
  return true;
}

} // namespace dpopt::testing
