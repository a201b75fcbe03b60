// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Data for tests: the same numbers with every standard library, since only the engine of <random> is portable.
#pragma once

#include "dpopt/core/types.hpp"

#include <cstdint>
#include <random>
#include <vector>

namespace dpopt::test {

/// n numbers uniform in (-1, 1).
template <class U>
[[nodiscard]] std::vector<U> random_numbers(isize n, int seed) {
  std::mt19937_64 engine(static_cast<std::uint64_t>(seed) + 1000);
  std::vector<U> out;
  out.reserve(static_cast<std::size_t>(n));
  for (isize i = 0; i < n; ++i) out.push_back(static_cast<U>(static_cast<double>(engine() >> 11) * 0x1p-52 - 1));
  return out;
}

} // namespace dpopt::test
