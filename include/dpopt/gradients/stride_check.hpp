// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Whether strides keep the numbers of two samples apart. A number that two samples share would move with either of
/// them, which no bound on one sample's gradient covers.
#pragma once

#include "dpopt/core/error.hpp"
#include "dpopt/core/types.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <string>
#include <string_view>

namespace dpopt::detail {

/// One dimension of an array: how many, and how many elements apart (either way).
struct dimension_extent {
  isize count = 0;
  isize stride = 0;
};

/// True when no number belongs to two samples, for dimensions that are nested in each other by their strides, in any
/// order. What lies inside of a sample may overlap (windows over a series). Layouts that interleave dimensions in any
/// other way are refused.
template <std::size_t Others>
[[nodiscard]] bool samples_apart(dimension_extent all, std::array<dimension_extent, Others> others) noexcept {
  const auto length = [](dimension_extent d) { return std::abs(static_cast<double>(d.stride)); }; // never overflows
  std::sort(others.begin(), others.end(), [&](const auto& a, const auto& b) { return length(a) < length(b); });
  const auto none = [](const auto& d) { return d.count == 0; };
  if (all.count <= 1 || std::any_of(others.begin(), others.end(), none)) return true;
  double reach = 1; // from the first to the last number of the dimensions so far
  bool inside = true;
  const auto spread = [&](dimension_extent d) { reach += static_cast<double>(d.count - 1) * length(d); };
  for (const dimension_extent& d : others) {
    if (d.count == 1) continue;
    if (inside && length(d) >= length(all)) {
      if (reach > length(all)) return false;
      spread(all);
      inside = false;
    }
    if (!inside && reach > length(d)) return false;
    spread(d);
  }
  return !inside || reach <= length(all);
}

/// A sentence without the strides themselves: those of data with positions first tell the size of the batch, which is
/// private. `who`: the source's name for its strides, with a verb.
[[nodiscard]] inline std::string overlap_problem(std::string_view source, std::string_view who) {
  return message(source, ": ", who, " samples share numbers; give the distance in elements, or leave it out for dense ",
                 "data");
}

} // namespace dpopt::detail
