// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The weight of a linear layer that is applied at several positions of a sample (tokens, time steps, patches), never
/// materialized: a sample's gradient is the sum over its positions of (output gradient) (input)^T.
#pragma once

#include "dpopt/core/vector_dispatch.hpp"
#include "dpopt/gradients/outer_products.hpp"
#include "dpopt/gradients/per_sample_gradients.hpp"
#include "dpopt/gradients/product.hpp"
#include "dpopt/gradients/sample_tiles.hpp"
#include "dpopt/gradients/sequence_norm.hpp"
#include "dpopt/gradients/stride_check.hpp"
#include "dpopt/gradients/written_rows.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <string>
#include <type_traits>

namespace dpopt {

/// y_t = W x_t with W row-major [outputs x inputs]; activations [batch x positions x inputs] and output_gradients
/// [batch x positions x outputs], dense unless the strides (in elements) are changed: time-major data swap both pairs;
/// an input_sample_stride of 0 is one series of inputs for all samples. Padding has output gradients of zero. The sum
/// over positions is within a sample: a loss that averages over positions gives output gradients that are divided
/// already, and gradient_scale speaks of samples alone.
///
/// Also: a recurrent weight (positions are time steps, activations the hidden states before each); both weights of a
/// LoRA pair y = W x + B A x (A: activations x, output gradients B^T e; B: activations A x, output gradients e); one
/// position with strides.
///
/// Privacy: the norm is an upper bound on what the rows add, rounding included (sequence_norm.hpp says how). In
/// float it exceeds the gradient's by (positions + 4) 2^-24 sum_t |e_t| |a_t|: 1e-4 of it for 128 positions of random
/// directions, more where they cancel. Rounding of the running sum over samples is as for every source. Of written
/// rows (gradients/written_rows.hpp) it is the norm of the numbers added. Both the bound and the choice depend on
/// `positions`: fix it in advance. Padded to the longest sample of a batch, it would let that one move the others'
/// factors.
/// Cost with T positions: the sum T d p a sample, one matrix product; the norm the smaller of T d p and T^2 (d + p)
/// / 2; written rows one product a sample for both.
template <class U, class Product = portable_product>
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
  [[nodiscard]] isize block() const noexcept { return std::max<isize>(1, samples_); } // factors are cheap to re-read

  [[nodiscard]] std::string problem() const {
    if (samples_ < 0 || positions < 0 || inputs < 0 || outputs < 0)
      return "linear_sequence: a negative number of samples, positions, inputs or outputs; give 0 or more";
    const auto apart = [this](isize sample_stride, isize position_stride, isize width) {
      return detail::samples_apart(
          {samples_, sample_stride},
          std::array{detail::dimension_extent{positions, position_stride}, detail::dimension_extent{width, 1}});
    };
    if (input_sample_stride != 0 && !apart(input_sample_stride, input_position_stride, inputs))
      return detail::overlap_problem("linear_sequence", "the input strides let");
    if (!apart(output_sample_stride, output_position_stride, outputs))
      return detail::overlap_problem("linear_sequence", "the output strides let");
    return {};
  }

  void add_squared_norms(samples range, double* squared_norms, workspace& scratch) const {
    const bool by_gram = detail::gram_is_cheaper(positions, inputs, outputs);
    if (by_gram) detail::take_for_either_way(scratch, std::max(detail::gram_room(positions), instantiated_room()));
    for (isize i = 0; i < range.count; ++i) squared_norms[i] += squared_norm_of(range.first + i, by_gram, scratch);
  }

  /// One sample's upper bound, by the way that is asked for if rounding permits.
  [[nodiscard]] double squared_norm_of(isize sample, bool by_gram, workspace& scratch) const {
    detail::sequence_squares g;
    if (by_gram) g = gram_squares(sample, scratch);
    if (!(g.squares >= 0)) g = instantiated_squares(sample, scratch);
    return detail::squares_as_added<U>(g, positions);
  }

  template <std::floating_point Out>
  void add_weighted_sum(samples range, const double* factors, Out* out, workspace& scratch) const {
    if constexpr (std::is_same_v<product_type<U, Out>, Out>)
      add_outer_products<U>(
          Product{}, range.count * positions, inputs, outputs,
          [&](isize r) {
            const isize i = r / positions, t = r % positions;
            return outer_product<U>{input(range.first + i, t), output(range.first + i, t), factors[i]};
          },
          out, scratch);
    else detail::add_copied_sum(*this, range, factors, out, scratch);
  }

  [[nodiscard]] bool rows_are_cheaper() const noexcept {
    return detail::rows_are_cheaper(positions, inputs, outputs, size());
  }

  /// A matrix product a sample, of the factors where they lie unless they have another type or overlap.
  template <std::floating_point V>
    requires std::is_same_v<product_type<U, V>, V>
  void write_rows(samples range, V* to, workspace& scratch) const {
    std::fill_n(to, range.count * size(), V(0));
    for (isize i = 0; i < range.count; ++i) {
      const workspace::scope scope(scratch);
      const auto e = in_type<V>(output(range.first + i, 0), output_position_stride, outputs, scratch);
      const auto a = in_type<V>(input(range.first + i, 0), input_position_stride, inputs, scratch);
      Product{}.add(outputs, inputs, positions, e, a, strided_rows<V>{to + i * size(), inputs}, scratch);
    }
  }

  void copy_sample(isize sample, isize first, isize count, double scale, double* out) const {
    std::fill_n(out, count, 0.0);
    for (isize at = 0; at < count;) { // a row, or what was asked of it, at a time
      const isize o = (first + at) / inputs, from = (first + at) % inputs;
      const isize n = std::min(inputs - from, count - at);
      for (isize t = 0; t < positions; ++t) {
        const double e = static_cast<double>(output(sample, t)[o]);
        const U* const a = input(sample, t) + from;
        for (isize k = 0; k < n; ++k) out[at + k] += e * static_cast<double>(a[k]);
      }
      at += n;
    }
    for (isize k = 0; k < count; ++k) out[k] *= scale;
  }

private:
  [[nodiscard]] const U* input(isize i, isize t) const noexcept {
    return activations + i * input_sample_stride + t * input_position_stride;
  }
  [[nodiscard]] const U* output(isize i, isize t) const noexcept {
    return output_gradients + i * output_sample_stride + t * output_position_stride;
  }

  /// A sample's rows as a product takes them.
  template <class V>
  [[nodiscard]] strided_rows<const V> in_type(const U* from, isize stride, isize width, workspace& scratch) const {
    if constexpr (std::is_same_v<U, V>)
      if (stride >= width) return {from, stride};
    V* const copy = scratch.take<V>(positions * width);
    for (isize t = 0; t < positions; ++t)
      for (isize k = 0; k < width; ++k) copy[t * width + k] = static_cast<V>(from[t * stride + k]);
    return {copy, width};
  }

  [[nodiscard]] detail::sequence_squares gram_squares(isize i, workspace& scratch) const {
    const workspace::scope scope(scratch);
    double* const of_outputs = scratch.take<double>(positions * positions);
    double* const of_inputs = scratch.take<double>(positions * positions);
    detail::gram_of_rows(
        positions, outputs, [&](isize t) { return output(i, t); }, of_outputs, positions, scratch);
    detail::gram_of_rows(
        positions, inputs, [&](isize t) { return input(i, t); }, of_inputs, positions, scratch);
    return detail::squares_of_grams<U>(positions, of_outputs, of_inputs, inputs + outputs);
  }

  /// Rows of the wider factor whose products are made at a time: up to 128 KiB of G, or of its transpose.
  [[nodiscard]] isize rows_of_tile() const noexcept {
    const isize narrow = std::max<isize>(1, std::min(inputs, outputs)), wide = std::max(inputs, outputs);
    return std::clamp<isize>(16 * 1024 / narrow, 1, std::clamp<isize>(wide, 1, 64));
  }
  [[nodiscard]] isize instantiated_room() const noexcept {
    const isize narrow = std::min(inputs, outputs), rows = rows_of_tile();
    return positions * (narrow + rows) + rows * narrow + portable_product::room<double>(rows);
  }

  /// to[t * width + k] = from[t * stride + k] for all positions t.
  void widen(const U* from, isize stride, isize width, double* to) const {
    vectorized([=, n = positions]() DPOPT_FORCE_INLINE_LAMBDA {
      for (isize t = 0; t < n; ++t)
        for (isize k = 0; k < width; ++k) to[t * width + k] = static_cast<double>(from[t * stride + k]);
    });
  }

  /// The narrower factor is widened once, the other a tile at a time.
  [[nodiscard]] detail::sequence_squares instantiated_squares(isize i, workspace& scratch) const {
    const workspace::scope scope(scratch);
    const bool over_outputs = outputs >= inputs;
    const isize narrow = std::min(inputs, outputs), wide = std::max(inputs, outputs), rows = rows_of_tile();
    double* const kept = scratch.take<double>(positions * narrow);
    double* const tile = scratch.take<double>(positions * rows);
    double* const g = scratch.take<double>(rows * narrow);
    const U *const of_narrow = over_outputs ? input(i, 0) : output(i, 0), *const of_wide =
                                                                              over_outputs ? output(i, 0) : input(i, 0);
    const isize narrow_apart = over_outputs ? input_position_stride : output_position_stride,
                wide_apart = over_outputs ? output_position_stride : input_position_stride;
    detail::sequence_squares out{0, 0};
    widen(of_narrow, narrow_apart, narrow, kept);
    for (isize t = 0; t < positions; ++t)
      out.lengths +=
          std::sqrt(squared_norm(kept + t * narrow, narrow)) * std::sqrt(squared_norm(of_wide + t * wide_apart, wide));
    isize blocks = 0;
    for (isize first = 0; first < wide; first += rows, ++blocks) {
      const isize here = std::min(rows, wide - first);
      widen(of_wide + first, wide_apart, here, tile);
      std::fill_n(g, here * narrow, 0.0);
      portable_product{}.add(here, narrow, positions, strided_rows<const double>{tile, here},
                             strided_rows<const double>{kept, narrow}, strided_rows<double>{g, narrow}, scratch);
      out.squares += squared_norm(g, here * narrow);
    }
    // Rounding while G was made, so that this bounds the exact gradient too.
    const double norm = std::sqrt(upper_bound_of_sum(out.squares, blocks)) +
                        static_cast<double>(positions) * std::numeric_limits<double>::epsilon() * out.lengths;
    out.squares = norm * norm;
    return out;
  }
};

static_assert(PerSampleGradients<linear_sequence<float>, float> && SampleAccess<linear_sequence<float>>);
static_assert(CheckedSource<linear_sequence<double>>);

} // namespace dpopt
