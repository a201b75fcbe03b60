// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The loops that clipping is measured against, as one would write them for one parameter and one bound.
#pragma once

#include "dpopt/core/types.hpp"

#include <algorithm>
#include <cmath>

namespace bench {

using dpopt::isize;

/// sum += every row clipped to norm 1; rows are a multiple of 8 long. Norm and sum of each row back to back.
inline void clip_and_sum(const float* rows, isize samples, isize width, float* sum) {
  for (isize i = 0; i < samples; ++i) {
    const float* row = rows + i * width;
    double squares[8] = {};
    for (isize k = 0; k < width; k += 8)
      for (isize j = 0; j < 8; ++j) squares[j] += static_cast<double>(row[k + j]) * static_cast<double>(row[k + j]);
    double s = 0;
    for (const double q : squares) s += q;
    const float factor = static_cast<float>(std::min(1.0, 1.0 / (std::sqrt(s) + 1e-6)));
    for (isize k = 0; k < width; ++k) sum[k] += factor * row[k];
  }
}

/// Reads every number once and does the least that makes use of it: the machine's limit. n is a multiple of 32.
[[nodiscard]] inline float read_all(const float* numbers, isize n) {
  float sums[32] = {};
  for (isize k = 0; k < n; k += 32)
    for (isize j = 0; j < 32; ++j) sums[j] += numbers[k + j];
  float total = 0;
  for (const float s : sums) total += s;
  return total;
}

} // namespace bench
