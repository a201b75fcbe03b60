// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// dpopt::materialized on the device: per-sample gradients that the trainer has written out, one row a sample.
#pragma once

#include "dpopt/cuda/device_gradients.hpp"
#include "dpopt/cuda/grid_sum.cuh"
#include "dpopt/cuda/many_parameters.cuh"
#include "dpopt/cuda/row_norms.cuh"
#include "dpopt/cuda/weighted_sum.cuh"
#include "dpopt/gradients/materialized.hpp"

#include <concepts>
#include <cstdint>

namespace dpopt::cuda {

/// View of [batch x size] numbers in device memory, row-major, rows `stride` elements apart. Also the source of a bias.
/// Rows that start on 16 bytes, `stride` included, are read by vectors.
template <class U>
class materialized : dpopt::materialized<U> {
  using host = dpopt::materialized<U>;

public:
  using host::batch, host::host, host::problem, host::size; // none of them reads a number

  template <class D>
  void add_squared_norms(device_work<D>& on, double* squared_norms) const {
    const row_norm_plan plan = plan_row_norms(batch(), size());
    if (plan.parts == 0)
      return on.launch("add_row_norms_by_warp", plan.norms, &add_row_norms_by_warp<U>, view(), squared_norms);
    double* const partial = on.template scratch<double>(plan.scratch(batch()));
    on.launch("row_norm_parts", plan.norms, &row_norm_parts<U>, view(), plan.parts, plan.part_size, partial);
    on.launch("add_norm_parts", plan.sum, &add_norm_parts<double>, partial, batch(), plan.parts, squared_norms);
  }

  template <class D, std::floating_point Out>
  void add_weighted_sum(device_work<D>& on, const double* factors, Out* out) const {
    on.launch("add_weighted_rows", weighted_rows_shape<U>(batch(), size()), &add_weighted_rows<U, Out>, view(), factors,
              out);
  }

  template <class D>
  void add_grid_sum(device_work<D>& on, const double* factors, grid_scale grid, std::int64_t* out) const {
    launch_grid_sum(on, view(), batch(), size(), factors, grid, out);
  }

  [[nodiscard]] bool shares_launches() const noexcept { return size() <= most_shared_elements; }
  [[nodiscard]] row_view<U> view() const noexcept { return {this->rows, batch(), size(), this->stride}; }
};

static_assert(SharesLaunches<materialized<float>>);

} // namespace dpopt::cuda
