// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Per-sample gradients that the trainer has written out, one row a sample.
#pragma once

#include "dpopt/gradients/per_sample_gradients.hpp"

#include <algorithm>

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

  /// As many rows as half of a common L2 cache holds: the sum then reads them from cache after the norms.
  [[nodiscard]] isize block() const noexcept {
    constexpr isize bytes = 256 * 1024;
    return std::max<isize>(1, bytes / std::max<isize>(1, elements * static_cast<isize>(sizeof(U))));
  }

  void add_squared_norms(samples range, double* squared_norms, workspace&) const {
    for (isize i = 0; i < range.count; ++i) squared_norms[i] += squared_norm(row(range.first + i), elements);
  }

  template <std::floating_point Out>
  void add_weighted_sum(samples range, const double* factors, Out* out, workspace&) const {
    using product = product_type<U, Out>;
    for (isize i = 0; i < range.count; ++i) {
      if (factors[i] == 0) continue;
      const product factor = rounded_down<Out, product>(factors[i]);
      const U* g = row(range.first + i);
      for (isize k = 0; k < elements; ++k) out[k] += static_cast<Out>(factor * static_cast<product>(g[k]));
    }
  }

  void copy_sample(isize sample, isize first, isize count, double scale, double* out) const {
    const U* g = row(sample) + first;
    for (isize k = 0; k < count; ++k) out[k] = scale * static_cast<double>(g[k]);
  }

  [[nodiscard]] const U* row(isize sample) const noexcept { return rows + sample * stride; }
};

static_assert(PerSampleGradients<materialized<float>, float> && SampleAccess<materialized<float>>);
static_assert(PerSampleGradients<materialized<float>, double> && PerSampleGradients<materialized<double>, double>);

} // namespace dpopt
