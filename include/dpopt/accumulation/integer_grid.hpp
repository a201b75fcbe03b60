// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Sums in fixed point: bit-identical for any order of samples, microbatches, threads and ranks, since integer addition
/// is associative.
#pragma once

#include "dpopt/accumulation/accumulator.hpp"
#include "dpopt/core/error.hpp"
#include "dpopt/core/platform.hpp"
#include "dpopt/core/vector_dispatch.hpp"
#include "dpopt/gradients/sample_tiles.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <vector>

namespace dpopt {

/// Clipped contributions are rounded TOWARDS ZERO on a grid of 2^-fraction_bits of the power of two above the largest
/// norm. max_units is the greatest number of samples that a step of all ranks can hold (the size of the data set is
/// always enough): resize() refuses settings in which that many could overflow 64 bits. Beyond it sums wrap around, as
/// an error would depend on the data.
///
/// Any source with copy_sample will do, also a factored one: what is rounded is the sample's gradient as copy_sample
/// writes it, never a sum of products. With f the factor, n the norm, C the largest norm and u the unit:
///  - no norm grows: |written number| <= f' |g| (1 + eps)^2 with f' = rounded_down(f), hence <= f |g|, where dividing
///    by u is exact, and rounding towards zero only shrinks; so the rounded contribution has norm <= f n <= C;
///  - no overflow: C < 2^fraction_bits u, so each number is below 2^fraction_bits, and max_units of them below 2^62. A
///    number that a source gets wrong (an overflow within it) is larger, or NaN, and adds nothing: the bound on the sum
///    does not hang on the source;
///  - same bits: each number depends on its sample and factor alone, and integer sums on no order at all.
class integer_grid {
public:
  using role = roles::accumulator;
  using value_type = std::int64_t;

  explicit integer_grid(int fraction_bits = 36, double max_units = 67108864.0)
      : fraction_bits_(fraction_bits), max_units_(max_units) {}

  /// @throw invalid_argument unless fraction_bits + log2(max_units) <= 62, the norm is a positive number, and a unit of
  /// it is a normal one.
  void resize(isize n, double largest_norm) {
    if (fraction_bits_ < 1 || !(max_units_ >= 1) || fraction_bits_ + std::log2(max_units_) > 62)
      throw invalid_argument(message("integer_grid: fraction_bits ", fraction_bits_, " with max_units ", max_units_,
                                     " could overflow; keep fraction_bits + log2(max_units) within 62"));
    if (!(std::isfinite(largest_norm) && largest_norm > 0))
      throw invalid_argument(message("integer_grid: the clipper's bound ", largest_norm, " is not a positive number"));
    int exponent = 0;
    std::frexp(largest_norm, &exponent); // largest_norm < 2^exponent
    unit_ = std::ldexp(1.0, exponent - fraction_bits_);
    limit_ = std::ldexp(1.0, fraction_bits_);
    if (!std::isnormal(unit_))
      throw invalid_argument(message("integer_grid: the clipper's bound ", largest_norm, " is too small for ",
                                     fraction_bits_, " fraction_bits"));
    sums_.assign(static_cast<std::size_t>(n), 0);
  }

  [[nodiscard]] value_type* data() noexcept { return sums_.data(); }
  [[nodiscard]] double unit() const noexcept { return unit_; }
  [[nodiscard]] std::string describe() const {
    return message("integer_grid(fraction_bits=", fraction_bits_, ", max_units=", max_units_, ")");
  }

  template <SampleAccess S>
  void add(isize at, const S& source, samples range, const double* factors, workspace& scratch) {
    const workspace::scope scope(scratch);
    const double per_unit = 1 / unit_; // exact, as is each product with it: powers of two
    const isize tile = sample_tile(source);
    double* const scaled = scratch.take<double>(tile);
    for (isize i = 0; i < range.count; ++i) {
      if (factors[i] == 0) continue;
      const double factor = rounded_down<double>(factors[i]);
      for (isize first = 0; first < source.size(); first += tile) {
        const isize count = std::min(tile, source.size() - first);
        detail::copy_part(source, range.first + i, first, count, factor, scaled, scratch);
        vectorized([=, sums = sums_.data() + at + first, limit = limit_]()
                       DPOPT_FORCE_INLINE_LAMBDA { add_tile(sums, scaled, count, per_unit, limit); });
      }
    }
  }

private:
  /// No branch: a number that is none of a clipped gradient's (see above) adds 0.
  DPOPT_FORCE_INLINE static void add_tile(value_type* sums, const double* numbers, isize count, double per_unit,
                                          double limit) noexcept {
    for (isize k = 0; k < count; ++k) {
      const double x = numbers[k] * per_unit;
      const auto towards_zero = static_cast<value_type>(std::abs(x) < limit ? x : 0.0);
      sums[k] = static_cast<value_type>(static_cast<std::uint64_t>(sums[k]) + static_cast<std::uint64_t>(towards_zero));
    }
  }

  int fraction_bits_;
  double max_units_;
  double unit_ = 0;
  double limit_ = 0; // 2^fraction_bits
  std::vector<value_type> sums_;
};

static_assert(Accumulator<integer_grid>);

} // namespace dpopt
