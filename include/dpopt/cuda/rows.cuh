// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// What kernels are told about matrices in device memory: views that are copied by value. `size`, strides and indices
/// count elements. Views of a parameter's per-sample gradients write single numbers as the CPU's sources do:
/// element(i, place(k), scale) is scale x number k of sample i's; place(k) is found once for many samples, because it
/// may hold a division. scale_type<Out>: what a factor is narrowed to before it meets a number on its way into a sum of
/// Out; columns_a_thread: how many elements of such a sum a thread takes. Factored ones, sums of outer products, name
/// their rows: input(i, t) and output(i, t) of sample i at position t.
#pragma once

#include "dpopt/core/platform.hpp"
#include "dpopt/core/types.hpp"
#include "dpopt/cuda/dialect.cuh"
#include "dpopt/cuda/vector_load.cuh"
#include "dpopt/gradients/per_sample_gradients.hpp"

namespace dpopt::cuda {

/// [batch x size], row-major, rows `stride` elements apart: a sample a row.
template <class U>
struct row_view {
  const U* first;
  isize batch;
  isize size;
  isize stride;

  template <class Out>
  using scale_type = product_type<U, Out>;
  static constexpr isize columns_a_thread = per_vector<U>;

  [[nodiscard]] DPOPT_DEVICE isize elements() const { return size; }
  [[nodiscard]] __device__ const U* row(isize i) const { return first + i * stride; }

  [[nodiscard]] __device__ isize place(isize k) const { return k; }
  /// As materialized::copy_sample writes it.
  [[nodiscard]] __device__ double element(isize i, isize k, double scale) const {
    return scale * static_cast<double>(row(i)[k]);
  }
};

/// [samples x positions x size] with any strides between samples and positions.
template <class U>
struct position_view {
  const U* first;
  isize samples;
  isize positions;
  isize size;
  isize sample_stride;
  isize position_stride;

  [[nodiscard]] __device__ const U* row(isize i, isize t) const {
    return first + i * sample_stride + t * position_stride;
  }
};

/// A number of a gradient that is a sum of outer products.
struct outer_place {
  isize output;
  isize input;
};

/// The factors of a linear layer's gradients, one position a sample.
template <class U>
struct outer_view {
  row_view<U> inputs;
  row_view<U> outputs; ///< gradients by the layer's outputs

  template <class Out>
  using scale_type = double;
  static constexpr isize columns_a_thread = 1;

  [[nodiscard]] DPOPT_DEVICE isize elements() const { return inputs.size * outputs.size; }
  [[nodiscard]] DPOPT_DEVICE isize samples() const { return inputs.batch; }
  [[nodiscard]] DPOPT_DEVICE static constexpr isize positions() { return 1; }
  [[nodiscard]] __device__ const U* input(isize i, isize) const { return inputs.row(i); }
  [[nodiscard]] __device__ const U* output(isize i, isize) const { return outputs.row(i); }

  [[nodiscard]] __device__ outer_place place(isize k) const { return {k / inputs.size, k % inputs.size}; }
  /// As linear_weight::copy_sample writes it.
  [[nodiscard]] __device__ double element(isize i, outer_place at, double scale) const {
    return scale * static_cast<double>(outputs.row(i)[at.output]) * static_cast<double>(inputs.row(i)[at.input]);
  }
};

/// The same over several positions.
template <class U>
struct sequence_view {
  position_view<U> inputs;
  position_view<U> outputs;

  template <class Out>
  using scale_type = double;
  static constexpr isize columns_a_thread = 1;

  [[nodiscard]] DPOPT_DEVICE isize elements() const { return inputs.size * outputs.size; }
  [[nodiscard]] DPOPT_DEVICE isize samples() const { return inputs.samples; }
  [[nodiscard]] DPOPT_DEVICE isize positions() const { return inputs.positions; }
  [[nodiscard]] __device__ const U* input(isize i, isize t) const { return inputs.row(i, t); }
  [[nodiscard]] __device__ const U* output(isize i, isize t) const { return outputs.row(i, t); }

  [[nodiscard]] __device__ outer_place place(isize k) const { return {k / inputs.size, k % inputs.size}; }
  /// As linear_sequence::copy_sample writes it.
  [[nodiscard]] __device__ double element(isize i, outer_place at, double scale) const {
    double sum = 0;
    for (isize t = 0; t < inputs.positions; ++t)
      sum += static_cast<double>(outputs.row(i, t)[at.output]) * static_cast<double>(inputs.row(i, t)[at.input]);
    return sum * scale;
  }
};

template <class View>
concept FactoredView =
    requires(const View v, isize i, isize t) { v.samples(), v.positions(), v.input(i, t), v.output(i, t); };

} // namespace dpopt::cuda
