// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Both questions of a source answered from copy_sample alone, tile by tile: for sources that combine others (tied,
/// units, preconditioned) and those that can only write a gradient out (callback).
///
/// The norm is taken of the very numbers that are added, rounding included, so that it stays a bound also where the
/// parts of a gradient cancel: contributions of two large parts with a small sum must not be added one after the other.
#pragma once

#include "dpopt/gradients/per_sample_gradients.hpp"

#include <algorithm>

namespace dpopt {

/// How many elements of a sample are best copied at once: what fits the first-level cache twice, or what a source asks
/// for by a member sample_tile() because it makes whole gradients.
template <SampleAccess S>
[[nodiscard]] isize sample_tile(const S& source) {
  if constexpr (requires { source.sample_tile(); }) return std::max<isize>(1, source.sample_tile());
  else return 512;
}

namespace detail {

/// source.copy_sample(), with scratch memory where it takes some.
template <SampleAccess S>
void copy_part(const S& source, isize sample, isize first, isize count, double scale, double* out, workspace& scratch) {
  if constexpr (requires { source.copy_sample(sample, first, count, scale, out, scratch); })
    source.copy_sample(sample, first, count, scale, out, scratch);
  else source.copy_sample(sample, first, count, scale, out);
}

/// Calls f(first, count, g) with every part of a sample's gradient in turn, as copy_sample gives it at scale 1.
template <SampleAccess S, class F>
void for_each_tile_of(const S& source, isize sample, isize tile, double* g, workspace& scratch, F&& f) {
  const isize size = source.size();
  for (isize first = 0; first < size; first += tile) {
    const isize count = std::min(tile, size - first);
    copy_part(source, sample, first, count, 1.0, g, scratch);
    f(first, count, g);
  }
}

/// add_squared_norms for any source with copy_sample.
template <SampleAccess S>
void add_copied_norms(const S& source, samples range, double* squared_norms, workspace& scratch) {
  const workspace::scope scope(scratch);
  const isize tile = sample_tile(source);
  double* const g = scratch.take<double>(tile);
  for (isize i = 0; i < range.count; ++i) {
    double squares = 0;
    isize tiles = 0;
    for_each_tile_of(source, range.first + i, tile, g, scratch, [&](isize, isize count, const double* part) {
      squares += squared_norm(part, count);
      ++tiles;
    });
    squared_norms[i] += upper_bound_of_sum(squares, tiles);
  }
}

/// add_weighted_sum for any source with copy_sample.
template <SampleAccess S, std::floating_point Out>
void add_copied_sum(const S& source, samples range, const double* factors, Out* out, workspace& scratch) {
  const workspace::scope scope(scratch);
  const isize tile = sample_tile(source);
  double* const g = scratch.take<double>(tile);
  for (isize i = 0; i < range.count; ++i) {
    if (factors[i] == 0) continue;
    const double factor = rounded_down<Out, double>(factors[i]);
    for_each_tile_of(source, range.first + i, tile, g, scratch, [&](isize first, isize count, const double* part) {
      for (isize k = 0; k < count; ++k) out[first + k] += static_cast<Out>(factor * part[k]);
    });
  }
}

} // namespace detail
} // namespace dpopt
