// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The discrete Laplace distribution, exactly: P(x) proportional to exp(-|x| / t) for every integer x (Canonne, Kamath
/// and Steinke 2020, arXiv:2004.00010, algorithm 2, whose s is 1 here). What discrete_gaussian proposes.
///
/// Only scales t = 2^k: a uniform number below t is then k bits, with nothing to reject.
#pragma once

#include "dpopt/core/error.hpp"
#include "dpopt/noise/exact_coin.hpp"

#include <cstdint>

namespace dpopt {

/// Largest k, and the first multiple of t that is out of reach: |x| stays below 2^62. Only a draw of probability
/// exp(-65536) would get there.
struct discrete_laplace_limits {
  static constexpr int log2_scale = 46;
  static constexpr std::uint64_t multiples = std::uint64_t{1} << 16;
};

/// One number. 0 <= k <= discrete_laplace_limits::log2_scale.
/// @throw randomness_error at 2^16 multiples of t: the source is broken.
template <WordSource S>
[[nodiscard]] std::int64_t discrete_laplace(exact_coin<S>& coin, int k) {
  const std::uint64_t scale = std::uint64_t{1} << k;
  for (;;) {
    const std::uint64_t word = coin.word();
    const std::uint64_t rest = word & (scale - 1); // |x| modulo t
    if (!coin.exp_minus(rest, scale)) continue;
    std::uint64_t multiples = 0;
    while (coin.exp_minus(1, 1))
      if (++multiples == discrete_laplace_limits::multiples)
        throw randomness_error(
            "discrete_laplace: 65536 coins of probability 1/e in a row: the source of bits is broken");
    const bool negative = (word >> 63) != 0;
    const auto size = static_cast<std::int64_t>((multiples << k) | rest);
    if (negative && size == 0) continue; // or else 0 would have two chances
    return negative ? -size : size;
  }
}

} // namespace dpopt
