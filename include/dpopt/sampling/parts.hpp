// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Physical parts of a logical batch that is too large to be worked off at once.
#pragma once

#include "dpopt/core/error.hpp"
#include "dpopt/core/types.hpp"

#include <algorithm>
#include <span>
#include <vector>

namespace dpopt {

/// Splits records into parts of at most `most`. No records still give one part, which is empty: a step needs a begin()
/// on every rank. @throw invalid_argument if most < 1.
[[nodiscard]] inline std::vector<std::span<const isize>> parts(std::span<const isize> records, isize most) {
  if (most < 1) throw invalid_argument(message("parts: at most ", most, " records a part; give 1 or more"));
  std::vector<std::span<const isize>> out;
  const auto limit = static_cast<std::size_t>(most);
  do {
    out.push_back(records.first(std::min(limit, records.size())));
    records = records.subspan(out.back().size());
  } while (!records.empty());
  return out;
}

} // namespace dpopt
