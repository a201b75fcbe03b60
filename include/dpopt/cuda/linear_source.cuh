// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// dpopt::linear_weight and dpopt::linear_sequence on the device: never materialized. Norms from the factors; the
/// weighted sum is the plain gradient product, by cuBLAS, with scaled rows, or, of small layers that share a launch,
/// added number by number.
#pragma once

#include "dpopt/cuda/device_gradients.hpp"
#include "dpopt/cuda/grid_sum.cuh"
#include "dpopt/cuda/linear_norms.cuh"
#include "dpopt/cuda/many_parameters.cuh"
#include "dpopt/cuda/many_sequences.cuh"
#include "dpopt/cuda/product_operands.cuh"
#include "dpopt/cuda/rows.cuh"
#include "dpopt/cuda/sequence_norms.cuh"
#include "dpopt/gradients/linear_sequence.hpp"
#include "dpopt/gradients/linear_weight.hpp"

#include <concepts>
#include <cstdint>
#include <string>
#include <type_traits>

namespace dpopt::cuda {

/// Factors that fit into the sum's type once scaled: numbers wider than their sum are materialized by the trainer.
template <class U, class Out>
concept ProductIn = std::same_as<product_type<U, Out>, Out>;

namespace detail {

/// out += the sum over samples and positions of factor x output gradient x input^T. Both operands are copied, so that
/// dropped samples, whose numbers may be NaN, are rows of zeros in both. Scratch: a copy of both in Out.
template <class U, class Out, class D>
void add_scaled_product(device_work<D>& on, const sequence_view<U>& v, const double* factors, Out* out) {
  const isize rows = v.inputs.samples * v.inputs.positions;
  if (rows == 0 || v.inputs.size == 0 || v.outputs.size == 0) return;
  Out* const scaled = on.template scratch<Out>(rows * (v.outputs.size + v.inputs.size));
  Out* const selected = scaled + rows * v.outputs.size;
  on.launch("product_operands", product_operands_shape(v.inputs.samples, v.inputs.positions), &product_operands<U, Out>,
            v, factors, scaled, selected);
  on.add_transposed_product(v.outputs.size, v.inputs.size, rows, scaled, selected, out, "gradient product");
}

} // namespace detail

/// y = W x, as dpopt::linear_weight with its pointers in device memory. The bias is a materialized source of its own.
template <class U>
struct linear_weight {
  const U* activations = nullptr;
  const U* output_gradients = nullptr;
  isize samples_ = 0;
  isize inputs = 0;
  isize outputs = 0;

  [[nodiscard]] isize batch() const noexcept { return samples_; }
  [[nodiscard]] isize size() const noexcept { return inputs * outputs; }
  [[nodiscard]] std::string problem() const {
    return dpopt::linear_weight<U>{activations, output_gradients, samples_, inputs, outputs}.problem();
  }

  template <class D>
  void add_squared_norms(device_work<D>& on, double* squared_norms) const {
    on.launch("add_linear_norms", linear_norms_shape(samples_), &add_linear_norms<U>, view(), squared_norms,
              static_cast<double*>(nullptr));
  }
  template <class D, std::floating_point Out>
    requires ProductIn<U, Out>
  void add_weighted_sum(device_work<D>& on, const double* factors, Out* out) const {
    const sequence_view<U> v{{activations, samples_, 1, inputs, inputs, inputs},
                             {output_gradients, samples_, 1, outputs, outputs, outputs}};
    detail::add_scaled_product(on, v, factors, out);
  }
  template <class D>
  void add_grid_sum(device_work<D>& on, const double* factors, grid_scale grid, std::int64_t* out) const {
    launch_grid_sum(on, view(), samples_, size(), factors, grid, out);
  }

  /// Small layers' sums are then added number by number, in the order of the samples, and not by a product.
  [[nodiscard]] bool shares_launches() const noexcept { return size() <= most_shared_elements; }
  [[nodiscard]] outer_view<U> view() const noexcept {
    return {{activations, samples_, inputs, inputs}, {output_gradients, samples_, outputs, outputs}};
  }
};

static_assert(SharesLaunches<linear_weight<float>>);

/// y_t = W x_t over positions, as dpopt::linear_sequence with its pointers in device memory.
template <class U>
struct linear_sequence {
  const U* activations = nullptr;
  const U* output_gradients = nullptr;
  isize samples_ = 0;
  isize positions = 0;
  isize inputs = 0;
  isize outputs = 0;
  isize input_sample_stride = positions * inputs;
  isize input_position_stride = inputs;
  isize output_sample_stride = positions * outputs;
  isize output_position_stride = outputs;

  [[nodiscard]] isize batch() const noexcept { return samples_; }
  [[nodiscard]] isize size() const noexcept { return inputs * outputs; }
  /// The core's question about extents and strides: it reads no number.
  [[nodiscard]] std::string problem() const {
    return dpopt::linear_sequence<U>{activations,
                                     output_gradients,
                                     samples_,
                                     positions,
                                     inputs,
                                     outputs,
                                     input_sample_stride,
                                     input_position_stride,
                                     output_sample_stride,
                                     output_position_stride}
        .problem();
  }

  template <class D>
  void add_squared_norms(device_work<D>& on, double* squared_norms) const {
    on.launch("add_sequence_norms", sequence_norms_shape(samples_), &add_sequence_norms<U>, view(),
              dpopt::detail::gram_is_cheaper(positions, inputs, outputs), squared_norms);
  }
  template <class D, std::floating_point Out>
    requires ProductIn<U, Out>
  void add_weighted_sum(device_work<D>& on, const double* factors, Out* out) const {
    detail::add_scaled_product(on, view(), factors, out);
  }
  template <class D>
  void add_grid_sum(device_work<D>& on, const double* factors, grid_scale grid, std::int64_t* out) const {
    launch_grid_sum(on, view(), samples_, size(), factors, grid, out);
  }

  /// As linear_weight, unless there are so many rows that a product is worth its launches.
  [[nodiscard]] bool shares_launches() const noexcept {
    return size() <= most_shared_elements && samples_ * positions <= most_shared_rows;
  }
  [[nodiscard]] sequence_view<U> view() const noexcept {
    return {{activations, samples_, positions, inputs, input_sample_stride, input_position_stride},
            {output_gradients, samples_, positions, outputs, output_sample_stride, output_position_stride}};
  }
};

static_assert(SharesLaunches<linear_sequence<float>>);

} // namespace dpopt::cuda
