// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// dpopt::materialized on the device: per-sample gradients that the trainer has written out, one row a sample.
#pragma once

#include "dpopt/cuda/device_gradients.hpp"
#include "dpopt/cuda/grid_sum.cuh"
#include "dpopt/cuda/row_norms.cuh"
#include "dpopt/cuda/weighted_sum.cuh"
#include "dpopt/gradients/materialized.hpp"

#include <concepts>
#include <cstdint>
#include <string>

namespace dpopt::cuda {

/// View of [batch x size] numbers in device memory, row-major, rows `stride` elements apart. Also the source of a bias.
/// Rows that start on 16 bytes, `stride` included, are read by vectors.
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
  /// The core's question about strides: it reads no number.
  [[nodiscard]] std::string problem() const { return dpopt::materialized<U>(rows, samples_, elements, stride).problem(); }

  template <class D>
  void add_squared_norms(device_work<D>& on, double* squared_norms) const {
    const row_norm_plan plan = plan_row_norms(samples_, elements);
    if (plan.parts == 0)
      return on.launch("add_row_norms_by_warp", plan.norms, &add_row_norms_by_warp<U>, view(), squared_norms);
    double* const partial = on.template scratch<double>(plan.scratch(samples_));
    on.launch("row_norm_parts", plan.norms, &row_norm_parts<U>, view(), plan.parts, plan.part_size, partial);
    on.launch("add_norm_parts", plan.sum, &add_norm_parts<double>, partial, samples_, plan.parts, squared_norms);
  }

  template <class D, std::floating_point Out>
  void add_weighted_sum(device_work<D>& on, const double* factors, Out* out) const {
    on.launch("add_weighted_rows", weighted_rows_shape<U>(samples_, elements), &add_weighted_rows<U, Out>, view(),
              factors, out);
  }

  template <class D>
  void add_grid_sum(device_work<D>& on, const double* factors, grid_scale grid, std::int64_t* out) const {
    on.launch("add_grid_sum", grid_sum_shape(samples_, elements), &cuda::add_grid_sum<row_view<U>>, view(), samples_,
              elements, factors, grid.per_unit, grid.limit, grid_sum_parts(samples_, elements), out);
  }

private:
  [[nodiscard]] row_view<U> view() const noexcept { return {rows, samples_, elements, stride}; }
};

} // namespace dpopt::cuda
