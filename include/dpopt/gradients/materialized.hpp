// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Per-sample gradients that the trainer has written out, one row a sample.
#pragma once

#include "dpopt/core/platform.hpp"
#include "dpopt/core/vector_dispatch.hpp"
#include "dpopt/core/vector_operations.hpp"
#include "dpopt/gradients/per_sample_gradients.hpp"
#include "dpopt/gradients/row_norms.hpp"
#include "dpopt/gradients/short_rows.hpp"
#include "dpopt/gradients/stride_check.hpp"

#include <algorithm>
#include <array>
#include <string>
#include <type_traits>

namespace dpopt {

/// View of [batch x size] numbers, row-major, rows `stride` elements apart (>= size). U is any storage type that
/// converts to double: float, double, a half precision type. Also the source of a bias: its per-sample gradients are
/// the rows of the output gradients.
template <class U>
struct materialized {
  const U* rows = nullptr;
  isize samples_ = 0;
  isize elements = 0;
  isize stride = 0;

  materialized() = default;
  materialized(const U* first, isize batch, isize size) : materialized(first, batch, size, size) {}
  materialized(const U* first, isize batch, isize size, isize row_stride)
      : rows(first), samples_(batch), elements(size), stride(row_stride) {}

  [[nodiscard]] isize batch() const noexcept { return samples_; }
  [[nodiscard]] isize size() const noexcept { return elements; }

  [[nodiscard]] std::string problem() const {
    if (detail::samples_apart({samples_, stride}, std::array{detail::dimension_extent{elements, 1}})) return {};
    return detail::overlap_problem("materialized", "row_stride lets");
  }

  /// Short rows: as many as stay in the first-level cache while memory is read ahead of them.
  [[nodiscard]] isize block() const noexcept {
    constexpr isize room = 8 * 1024;
    const isize bytes = elements * static_cast<isize>(sizeof(U));
    return 2 * bytes <= room ? room / std::max<isize>(1, bytes) : samples_in_cache(bytes);
  }

  void add_squared_norms(samples range, double* squared_norms, workspace&) const {
    add_row_norms(row(range.first), stride, range.count, elements, squared_norms);
  }

  /// Four rows at a time, so that the sum is read and written a quarter as often, or short ones column by column; each
  /// number takes them in their order.
  template <std::floating_point Out>
  void add_weighted_sum(samples range, const double* factors, Out* out, workspace&) const {
    if constexpr (has_wide_words && std::is_same_v<U, Out>)
      if (elements * static_cast<isize>(sizeof(U)) <= detail::short_row) {
        vectorized([=, first = row(range.first), by = stride, n = elements](auto width) DPOPT_FORCE_INLINE_LAMBDA {
          detail::add_short_rows(width, first, by, n, factors, range.count, out);
        });
        return;
      }
    vectorized([=, this]() DPOPT_FORCE_INLINE_LAMBDA {
      using product = product_type<U, Out>;
      const U* chosen[4] = {};
      product scales[4] = {};
      isize count = 0;
      for (isize i = 0; i < range.count; ++i) {
        if (factors[i] == 0) continue;
        chosen[count] = row(range.first + i);
        scales[count] = rounded_down<Out, product>(factors[i]);
        if (++count < 4) continue;
        add_four(chosen, scales, out, elements);
        count = 0;
      }
      if (count >= 2) add_two(chosen, scales, out, elements);
      if (count % 2 == 1) add_one(chosen[count - 1], scales[count - 1], out, elements);
    });
  }

  void copy_sample(isize sample, isize first, isize count, double scale, double* out) const {
    const U* g = row(sample) + first;
    for (isize k = 0; k < count; ++k) out[k] = scale * static_cast<double>(g[k]);
  }

  [[nodiscard]] DPOPT_FORCE_INLINE const U* row(isize sample) const noexcept { return rows + sample * stride; }

private:
  // Passed through an array of fixed length, `out` needs no check whether it overlaps a row before vectors are used.
  static constexpr isize lanes = 16;

  template <class P, class Out>
  DPOPT_FORCE_INLINE static void add_row(const U* g, P scale, Out* to) noexcept {
    DPOPT_NO_CONTRACT_BLOCK
    for (isize j = 0; j < lanes; ++j) to[j] += static_cast<Out>(scale * static_cast<P>(g[j]));
  }

  template <class P, class Out>
  DPOPT_FORCE_INLINE static void add_one(const U* g, P scale, Out* out, isize n) noexcept {
    DPOPT_NO_CONTRACT_BLOCK
    isize k = 0;
    DPOPT_TURN_BY_TURN
    for (; k + lanes <= n; k += lanes) {
      Out sums[lanes];
      for (isize j = 0; j < lanes; ++j) sums[j] = out[k + j];
      add_row(g + k, scale, sums);
      for (isize j = 0; j < lanes; ++j) out[k + j] = sums[j];
    }
    for (; k < n; ++k) out[k] += static_cast<Out>(scale * static_cast<P>(g[k]));
  }

  template <class P, class Out>
  DPOPT_FORCE_INLINE static void add_two(const U* const* rows_of_two, const P* scales, Out* out, isize n) noexcept {
    DPOPT_NO_CONTRACT_BLOCK
    const U *const a = rows_of_two[0], *const b = rows_of_two[1];
    const P fa = scales[0], fb = scales[1];
    isize k = 0;
    DPOPT_TURN_BY_TURN
    for (; k + lanes <= n; k += lanes) {
      Out sums[lanes];
      for (isize j = 0; j < lanes; ++j) sums[j] = out[k + j];
      add_row(a + k, fa, sums);
      add_row(b + k, fb, sums);
      for (isize j = 0; j < lanes; ++j) out[k + j] = sums[j];
    }
    for (; k < n; ++k)
      for (isize m = 0; m < 2; ++m) out[k] += static_cast<Out>(scales[m] * static_cast<P>(rows_of_two[m][k]));
  }

  template <class P, class Out>
  DPOPT_FORCE_INLINE static void add_four(const U* const* rows_of_four, const P* scales, Out* out, isize n) noexcept {
    DPOPT_NO_CONTRACT_BLOCK
    const U *const a = rows_of_four[0], *const b = rows_of_four[1], *const c = rows_of_four[2],
                   *const d = rows_of_four[3];
    const P fa = scales[0], fb = scales[1], fc = scales[2], fd = scales[3];
    isize k = 0;
    DPOPT_TURN_BY_TURN
    for (; k + lanes <= n; k += lanes) {
      Out sums[lanes];
      for (isize j = 0; j < lanes; ++j) sums[j] = out[k + j];
      add_row(a + k, fa, sums);
      add_row(b + k, fb, sums);
      add_row(c + k, fc, sums);
      add_row(d + k, fd, sums);
      for (isize j = 0; j < lanes; ++j) out[k + j] = sums[j];
    }
    for (; k < n; ++k)
      for (isize m = 0; m < 4; ++m) out[k] += static_cast<Out>(scales[m] * static_cast<P>(rows_of_four[m][k]));
  }
};

static_assert(PerSampleGradients<materialized<float>, float> && SampleAccess<materialized<float>>);
static_assert(PerSampleGradients<materialized<float>, double> && PerSampleGradients<materialized<double>, double>);

} // namespace dpopt
