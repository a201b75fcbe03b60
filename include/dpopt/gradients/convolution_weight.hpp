// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The weight of a convolution, never materialized for more than one sample at a time: with the input patches of output
/// position t as a_t (im2col) and the output gradients there as e_t, a sample's gradient in each group of channels is
/// sum over t of e_t a_t^T.
#pragma once

#include "dpopt/gradients/convolution_geometry.hpp"
#include "dpopt/gradients/patch_products.hpp"
#include "dpopt/gradients/patch_table.hpp"
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
#include <utility>

namespace dpopt {

/// Inputs are [batch x input channels x input positions], output gradients [batch x output channels x output
/// positions] (NCHW), or both with channels last (NHWC): dense within a sample; samples may be any stride apart, and an
/// input_stride of 0 is one image for all of them. The weight's layout is the same for both. U is any storage type.
///
/// Privacy: the norm is an upper bound on what the positions add, rounding included (sequence_norm.hpp says how). In
/// float it exceeds the gradient's by (positions + 4) 2^-24 sum_t |e_t| |a_t|: some 1e-4 of it for images of 14 x 14,
/// more where positions cancel. Of written rows (gradients/written_rows.hpp) it is the norm of the numbers added.
/// Cost with T positions, r rows and c columns a group: the sum T r c, one matrix product a sample or 64 positions, in
/// the narrower type; the norm the smaller of T r c and T^2 (r + c) / 2, in double; written rows one product for both.
/// Groups of 2 rows, or 4 of small images (depthwise), are made in double for both, and the norm is of the very numbers
/// that are added.
template <class U, class Product = portable_product>
struct convolution_weight {
  const U* inputs = nullptr;
  const U* output_gradients = nullptr;
  isize samples_ = 0;
  convolution_geometry geometry;
  isize input_stride = 0;    // from sample to sample
  isize gradient_stride = 0; // likewise
  bool channels_last = false;

  convolution_weight() = default;
  convolution_weight(const U* input, const U* gradients, isize batch, const convolution_geometry& shape)
      : inputs(input), output_gradients(gradients), samples_(batch), geometry(shape),
        input_stride(shape.input_channels * shape.input_positions()), gradient_stride(0) {
    if (shape.problem().empty()) gradient_stride = shape.output_channels * shape.output_positions();
  }

  [[nodiscard]] isize batch() const noexcept { return samples_; }
  [[nodiscard]] isize size() const noexcept {
    return geometry.groups < 1 ? 0 : geometry.output_channels * geometry.columns();
  }
  [[nodiscard]] isize block() const noexcept {
    const isize bytes = (input_stride + gradient_stride) * static_cast<isize>(sizeof(U));
    return samples_in_cache(bytes);
  }
  [[nodiscard]] isize sample_tile() const noexcept {
    const isize rows = has_few_rows() ? std::max<isize>(1, 512 / std::max<isize>(1, geometry.columns())) : 0;
    return std::max(rows, detail::patch_products::row_block) * geometry.columns();
  }

  [[nodiscard]] std::string problem() const {
    if (std::string text = geometry.problem(); !text.empty()) return text;
    if (samples_ < 0) return "convolution: a negative number of samples; give 0 or more";
    const auto apart = [this](isize stride, isize numbers) {
      return detail::samples_apart({samples_, stride}, std::array{detail::dimension_extent{numbers, 1}});
    };
    if (input_stride != 0 && !apart(input_stride, geometry.input_channels * geometry.input_positions()))
      return detail::overlap_problem("convolution", "input_stride lets");
    if (!apart(gradient_stride, geometry.output_channels * geometry.output_positions()))
      return detail::overlap_problem("convolution", "gradient_stride lets");
    return {};
  }

  void add_squared_norms(samples range, double* squared_norms, workspace& scratch) const {
    if (has_few_rows()) return detail::add_copied_norms(*this, range, squared_norms, scratch);
    const bool by_gram = detail::gram_is_cheaper(geometry.output_positions(), geometry.columns(), geometry.rows());
    if (by_gram)
      detail::take_for_either_way(scratch,
                                  std::max(detail::gram_room(geometry.output_positions()), instantiated_room()));
    for (isize i = 0; i < range.count; ++i) squared_norms[i] += squared_norm_of(range.first + i, by_gram, scratch);
  }

  /// One sample's upper bound, by the way that is asked for if rounding permits.
  [[nodiscard]] double squared_norm_of(isize sample, bool by_gram, workspace& scratch) const {
    double squares = 0;
    const patch_table table(geometry);
    for (isize group = 0; group < geometry.groups; ++group) {
      const auto part = products(sample, group);
      detail::sequence_squares g;
      if (by_gram) g = gram_squares(part, table, scratch);
      if (!(g.squares >= 0)) g = instantiated_squares(part, table, scratch);
      squares += detail::squares_as_added<U>(g, geometry.output_positions());
    }
    return upper_bound_of_sum(squares, geometry.groups);
  }

  template <std::floating_point Out>
  void add_weighted_sum(samples range, const double* factors, Out* out, workspace& scratch) const {
    if constexpr (std::is_same_v<product_type<U, Out>, Out>) {
      if (has_few_rows()) return detail::add_copied_sum(*this, range, factors, out, scratch);
      add_products(range, factors, out, scratch);
    } else {
      detail::add_copied_sum(*this, range, factors, out, scratch);
    }
  }

  [[nodiscard]] bool rows_are_cheaper() const noexcept {
    return !has_few_rows() &&
           detail::rows_are_cheaper(geometry.output_positions(), geometry.columns(), geometry.rows(), size());
  }

  /// A matrix product a group of channels, of the output gradients where they lie if they can be read there.
  template <std::floating_point V>
    requires std::is_same_v<product_type<U, V>, V>
  void write_rows(samples range, V* to, workspace& scratch) const {
    const workspace::scope scope(scratch);
    const patch_table table(geometry);
    const isize rows = geometry.rows(), columns = geometry.columns();
    V* const e = scratch.take<V>(tile() * rows);
    V* const a = scratch.take<V>(tile() * columns);
    std::fill_n(to, range.count * size(), V(0));
    for (isize i = 0; i < range.count; ++i)
      for (isize group = 0; group < geometry.groups; ++group) {
        const auto part = products(range.first + i, group);
        for_each_tile([&](isize t, isize count) {
          table.write(part.input, part.of_input, 0, columns, t, count, a, count);
          strided_rows<const V> of_rows{e, count};
          if constexpr (std::is_same_v<U, V>)
            if (!channels_last) of_rows = {part.gradients + t, part.of_gradients.channel};
          if (of_rows.first == e)
            write_gradient_table(part.gradients, part.of_gradients, rows, t, count, 1.0, e, count);
          Product{}.add_transposed(rows, columns, count, of_rows, strided_rows<const V>{a, count},
                                   strided_rows<V>{to + i * size() + group * rows * columns, columns}, scratch);
        });
      }
  }

  void copy_sample(isize sample, isize first, isize count, double scale, double* out) const {
    constexpr isize lanes = detail::patch_products::lanes;
    constexpr isize row_block = detail::patch_products::row_block;
    const isize rows = geometry.rows();
    const isize columns = geometry.columns();
    if (has_few_rows()) return copy_few(sample, first, count, scale, out);
    double g[row_block * lanes];
    for (isize at = first; at < first + count;) { // some rows of one group at a time
      const isize row = at / columns;
      const isize stop = std::min({first + count, (row + row_block) * columns, (row / rows + 1) * rows * columns});
      const isize rows_here = (stop + columns - 1) / columns - row;
      const isize begin = rows_here == 1 ? at % columns : 0;
      const isize end = rows_here == 1 ? begin + stop - at : columns;
      for (isize c = begin / lanes * lanes; c < end; c += lanes) {
        products(sample, row / rows).gradient(row % rows, rows_here, c, g);
        for (isize r = 0; r < rows_here; ++r)
          for (isize k = 0; k < std::min(lanes, columns - c); ++k)
            if (const isize e = (row + r) * columns + c + k; e >= at && e < stop)
              out[e - first] = scale * g[r * lanes + k];
      }
      at = stop;
    }
  }

private:
  using part_of_sample = detail::patch_products::of_sample<U>;
  using patch_table = detail::patch_products::patch_table;
  static constexpr isize position_tile = detail::patch_products::position_tile;

  [[nodiscard]] detail::patch_products::image_strides strides(isize channels, isize positions) const noexcept {
    if (channels_last) return {1, channels};
    return {positions, 1};
  }

  [[nodiscard]] part_of_sample products(isize sample, isize group) const noexcept {
    const auto of_inputs = strides(geometry.input_channels, geometry.input_positions());
    const auto of_outputs = strides(geometry.output_channels, geometry.output_positions());
    const isize channels = geometry.input_channels / geometry.groups;
    return {geometry, inputs + sample * input_stride + group * channels * of_inputs.channel,
            output_gradients + sample * gradient_stride + group * geometry.rows() * of_outputs.channel, of_inputs,
            of_outputs};
  }

  [[nodiscard]] bool has_few_rows() const noexcept {
    using namespace detail::patch_products;
    const isize rows = geometry.groups > 1 ? geometry.rows() : few_on_planes + 1;
    return rows <= few_rows || (rows <= few_on_planes && plane_layout(geometry).fit);
  }

  /// copy_sample: whole rows of one group at a time, or else what was asked of a row.
  void copy_few(isize sample, isize first, isize count, double scale, double* out) const {
    const isize rows = geometry.rows(), columns = geometry.columns();
    const detail::patch_products::plane_layout plane(geometry);
    for (isize at = 0; at < count;) {
      const isize row = (first + at) / columns, column = (first + at) % columns;
      const isize whole = std::min(rows - row % rows, (count - at) / columns);
      const isize width = column == 0 && whole > 0 ? columns : std::min(columns - column, count - at);
      const isize height = width == columns ? std::max<isize>(1, whole) : 1;
      products(sample, row / rows).gradient_of_few(plane, row % rows, height, column, width, out + at);
      at += height * width;
    }
    for (isize k = 0; k < count; ++k) out[k] *= scale;
  }

  [[nodiscard]] isize tile() const noexcept { return std::min(position_tile, geometry.output_positions()); }

  /// out[0 .. size) += sum_i factors[i] g_i, where positions of several samples make one product if they are few.
  template <std::floating_point Out>
  void add_products(samples range, const double* factors, Out* out, workspace& scratch) const {
    constexpr isize together = 64;
    const workspace::scope scope(scratch);
    const patch_table table(geometry);
    const isize rows = geometry.rows(), columns = geometry.columns();
    const isize pitch = std::max(tile(), together); // whatever the batch: workspace_bytes() is not to tell its size
    Out* const e = scratch.take<Out>(pitch * rows);
    Out* const a = scratch.take<Out>(pitch * columns);
    for (isize group = 0; group < geometry.groups; ++group) {
      isize filled = 0;
      const auto flush = [&] {
        Product{}.add_transposed(rows, columns, std::exchange(filled, 0), strided_rows<const Out>{e, pitch},
                                 strided_rows<const Out>{a, pitch},
                                 strided_rows<Out>{out + group * rows * columns, columns}, scratch);
      };
      for (isize i = 0; i < range.count; ++i) {
        if (factors[i] == 0) continue;
        const double factor = rounded_down<Out, double>(factors[i]);
        const auto part = products(range.first + i, group);
        if (!stays_in_range<Out>(part, factor)) {
          flush();
          add_in_double(range.first + i, group, factor, out);
          continue;
        }
        for_each_tile([&](isize t, isize count) {
          if (filled + count > pitch) flush();
          write_gradient_table(part.gradients, part.of_gradients, rows, t, count, factor, e + filled, pitch);
          table.write(part.input, part.of_input, 0, columns, t, count, a + filled, pitch);
          filled += count;
        });
      }
      flush();
    }
  }

  /// Whether all output gradients times the factor are zero or normal numbers of Out, or what they lose stays small.
  template <std::floating_point Out>
  [[nodiscard]] bool stays_in_range(const part_of_sample& part, double factor) const {
    const isize channels = geometry.input_channels / geometry.groups, positions = geometry.input_positions();
    const isize runs = channels_last ? positions : 1; // of numbers that are neighbours
    double largest = 0;
    for (isize t = 0; t < runs; ++t)
      largest = std::max(
          largest, detail::largest_magnitude(part.input + t * part.of_input.position, channels * positions / runs));
    if (factor <= 1 && largest <= enlarges_losses) return true;
    for (isize r = 0; r < geometry.rows(); ++r)
      for (isize t = 0; t < geometry.output_positions(); ++t) {
        const U e = part.gradients[r * part.of_gradients.channel + t * part.of_gradients.position];
        if (leaves_range<Out>(factor * static_cast<double>(e))) return false;
      }
    return true;
  }

  /// One group of one sample by its sums in double.
  template <std::floating_point Out>
  void add_in_double(isize sample, isize group, double factor, Out* out) const {
    constexpr isize together = 512;
    double g[together]; // uninitialised: written before it is read
    const isize numbers = geometry.rows() * geometry.columns();
    for (isize first = group * numbers; first < (group + 1) * numbers; first += together) {
      const isize count = std::min(together, (group + 1) * numbers - first);
      copy_sample(sample, first, count, 1.0, g);
      for (isize k = 0; k < count; ++k) out[first + k] += static_cast<Out>(factor * g[k]);
    }
  }

  template <class F>
  void for_each_tile(const F& f) const {
    const isize positions = geometry.output_positions();
    for (isize t = 0; t < positions; t += position_tile) f(t, std::min(position_tile, positions - t));
  }

  [[nodiscard]] detail::sequence_squares gram_squares(const part_of_sample& part, const patch_table& table,
                                                      workspace& scratch) const {
    const workspace::scope scope(scratch);
    const isize n = geometry.output_positions(), rows = geometry.rows(), columns = geometry.columns();
    double* const of_gradients = scratch.take<double>(n * n);
    double* const of_patches = scratch.take<double>(n * n);
    const auto gradient_rows = [&](isize first, isize count, double* to) {
      write_gradient_table(part.gradients + first * part.of_gradients.channel, part.of_gradients, count, 0, n, 1.0, to,
                           n);
    };
    const auto patches = [&](isize first, isize count, double* to) {
      table.write(part.input, part.of_input, first, count, 0, n, to, n);
    };
    detail::gram_of_columns(n, rows, gradient_rows, of_gradients, n, scratch);
    detail::gram_of_columns(n, columns, patches, of_patches, n, scratch);
    return detail::squares_of_grams<U>(n, of_gradients, of_patches, rows + columns);
  }

  static constexpr isize columns_of_tile = 64;
  [[nodiscard]] isize instantiated_room() const noexcept {
    const isize rows = geometry.rows();
    return (tile() + columns_of_tile) * rows + tile() * columns_of_tile + 2 * geometry.output_positions() +
           portable_product::room<double>(rows);
  }

  /// The gradient is made some columns at a time.
  [[nodiscard]] detail::sequence_squares instantiated_squares(const part_of_sample& part, const patch_table& table,
                                                              workspace& scratch) const {
    constexpr isize wide = columns_of_tile;
    const workspace::scope scope(scratch);
    const isize n = geometry.output_positions(), rows = geometry.rows(), columns = geometry.columns();
    double* const e = scratch.take<double>(tile() * rows);
    double* const a = scratch.take<double>(tile() * wide);
    double* const g = scratch.take<double>(rows * wide);
    double* const e_squares = scratch.take<double>(n);
    double* const a_squares = scratch.take<double>(n);
    std::fill_n(e_squares, n, 0.0);
    std::fill_n(a_squares, n, 0.0);
    double squares = 0;
    for (isize first = 0; first < columns; first += wide) {
      const isize here = std::min(wide, columns - first);
      std::fill_n(g, rows * here, 0.0);
      for_each_tile([&](isize t, isize count) {
        if (first == 0 || n > position_tile) // one tile stays where it is
          write_gradient_table(part.gradients, part.of_gradients, rows, t, count, 1.0, e, count);
        table.write(part.input, part.of_input, first, here, t, count, a, count);
        if (first == 0) add_squares_of_columns(e, rows, count, e_squares + t);
        add_squares_of_columns(a, here, count, a_squares + t);
        portable_product{}.add_transposed(rows, here, count, strided_rows<const double>{e, count},
                                          strided_rows<const double>{a, count}, strided_rows<double>{g, here}, scratch);
      });
      squares += squared_norm(g, rows * here);
    }
    detail::sequence_squares out{0, 0};
    for (isize t = 0; t < n; ++t)
      out.lengths += std::sqrt(bound_of(e_squares[t], rows)) * std::sqrt(bound_of(a_squares[t], columns));
    // Rounding while the gradient was made, so that this bounds the exact one too.
    const double norm = std::sqrt(upper_bound_of_sum(squares, columns / wide + 1)) +
                        static_cast<double>(n + 16) * std::numeric_limits<double>::epsilon() * out.lengths;
    out.squares = norm * norm;
    return out;
  }

  /// Of a sum of n squares, those that vanished included.
  [[nodiscard]] static double bound_of(double squares, isize n) noexcept {
    if (sizeof(U) > sizeof(float) && squares < underflow_matters_below)
      squares += static_cast<double>(n) * std::numeric_limits<double>::denorm_min();
    return upper_bound_of_sum(squares, n);
  }

  /// sums[t] += the squares of column t of x [rows x count].
  static void add_squares_of_columns(const double* x, isize rows, isize count, double* sums) {
    vectorized([=]() DPOPT_FORCE_INLINE_LAMBDA {
      DPOPT_NO_CONTRACT_BLOCK
      for (isize r = 0; r < rows; ++r)
        for (isize t = 0; t < count; ++t) sums[t] += x[r * count + t] * x[r * count + t];
    });
  }
};

static_assert(PerSampleGradients<convolution_weight<float>, float> && SampleAccess<convolution_weight<float>>);
static_assert(CheckedSource<convolution_weight<float>>);

} // namespace dpopt
