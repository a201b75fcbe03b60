// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// One sample and one group of channels of a convolution as the two factors of a matrix product: output gradients and
/// input patches (im2col), written out some positions or columns at a time. Groups of few output channels (depthwise
/// convolutions) are sums of products instead: blocks of a matrix product would be empty for the most part.
#pragma once

#include "dpopt/core/platform.hpp"
#include "dpopt/core/vector_dispatch.hpp"
#include "dpopt/gradients/convolution_geometry.hpp"
#include "dpopt/gradients/per_sample_gradients.hpp"
#include "dpopt/gradients/product.hpp"

#include <algorithm>

namespace dpopt::detail::patch_products {

inline constexpr isize lanes = 8;           // columns that gradient() makes at once
inline constexpr isize row_block = 4;       // rows that it makes at once
inline constexpr isize position_tile = 256; // positions written out at a time: what a product takes at once
inline constexpr isize few_rows = 2;        // of a group, for which sums of products are faster (measured);
inline constexpr isize few_on_planes = 4;   // likewise, where plane_layout fits

/// How far apart channels and positions of an image lie.
struct image_strides {
  isize channel = 0;
  isize position = 1;
};

inline constexpr isize chains = 16; // sums that grow side by side, for vectors without free reordering

/// Sum of e[t] * a[t].
DPOPT_FORCE_INLINE inline double sum_of_products(const double* e, const double* a, isize count) noexcept {
  DPOPT_NO_CONTRACT_BLOCK
  double sums[chains] = {};
  isize t = 0;
  for (; t + chains <= count; t += chains)
    for (isize j = 0; j < chains; ++j) sums[j] += e[t + j] * a[t + j];
  for (isize j = 0; t < count; ++t, ++j) sums[j] += e[t] * a[t];
  for (isize half = chains / 2; half > 0; half /= 2)
    for (isize j = 0; j < half; ++j) sums[j] += sums[j + half];
  return sums[0];
}

/// sums[r][k] = sum over t of rows[r][t * step] * columns[t * lanes + k].
template <class U>
inline void multiply(const U* const (&rows)[row_block], isize step, const double* columns, isize count,
                     double (&sums)[row_block][lanes]) noexcept {
  for (isize r = 0; r < row_block; ++r) std::fill_n(sums[r], lanes, 0.0);
  for (isize t = 0; t < count; ++t)
    for (isize r = 0; r < row_block; ++r) {
      const double e = static_cast<double>(rows[r][t * step]);
      for (isize k = 0; k < lanes; ++k) sums[r][k] += e * columns[t * lanes + k];
    }
}

/// An input channel with its padding written out, and output gradients as far apart as the inputs that they meet, with
/// zeros between them: the gradient of a weight is then one sum of products without gaps, `offset` numbers into the
/// input. All that depends on the geometry alone is in here. Inputs that are not finite make a gradient that is not,
/// whether a weight meets them or a zero.
struct plane_layout {
  static constexpr isize room = 2048;

  explicit plane_layout(const convolution_geometry& g) noexcept {
    for (int axis = 2; axis >= 0; --axis) {
      const isize padding = -g.source(axis, 0, 0);
      const isize stride = g.output(axis) == 1 ? 1 : g.source(axis, 1, 0) + padding;
      input[axis] = g.input(axis), output[axis] = g.output(axis), kernel[axis] = g.kernel(axis);
      input_pitch[axis] = total, output_pitch[axis] = stride * total;
      step[axis] = (g.source(axis, 0, 1) + padding) * total;
      origin += padding * total;
      outputs += (output[axis] - 1) * stride * total;
      total *= input[axis] + 2 * padding;
      fit = fit && total + chains <= room && stride <= 2; // beyond, there would be more zeros than it is worth
    }
    length = (outputs + chains - 1) / chains * chains;
  }
  [[nodiscard]] isize weights() const noexcept { return kernel[0] * kernel[1] * kernel[2]; }
  [[nodiscard]] isize offset(isize k) const noexcept {
    return k / (kernel[1] * kernel[2]) * step[0] + k / kernel[2] % kernel[1] * step[1] + k % kernel[2] * step[2];
  }

  isize input[3], output[3], kernel[3];
  isize input_pitch[3], output_pitch[3]; ///< from neighbour to neighbour along an axis
  isize step[3];                         ///< from weight to weight
  isize origin = 0;                      ///< of the input in its plane
  isize outputs = 1;                     ///< from the first to the last output gradient
  isize length = 0;                      ///< the same, in whole vectors
  isize total = 1;                       ///< of the plane
  bool fit = true;
};

template <class U>
struct of_sample {
  const convolution_geometry& shape;
  const U* input;     // [channels of the group x input positions]
  const U* gradients; // [rows x output positions]
  image_strides of_input;
  image_strides of_gradients;

  /// g[r * lanes + k] = gradient of weight (first_row + r, first_column + k). The numbers depend on row and column
  /// alone. Columns that do not exist get numbers without meaning. For copy_sample, which is given no scratch memory.
  void gradient(isize first_row, isize count, isize first_column, double* g) const {
    double patches[position_tile * lanes]; // uninitialised: always written before they are read
    const isize positions = shape.output_positions();
    std::fill_n(g, count * lanes, 0.0);
    for (isize t = 0; t < positions; t += position_tile) {
      const isize here = std::min(position_tile, positions - t);
      for (isize k = 0; k < lanes; ++k) write_patches(first_column + k, t, here, patches + k, lanes);
      for (isize r = 0; r < count; r += row_block) {
        const U* rows[row_block];
        for (isize j = 0; j < row_block; ++j)
          rows[j] =
              gradients + (first_row + std::min(r + j, count - 1)) * of_gradients.channel + t * of_gradients.position;
        double sums[row_block][lanes];
        multiply(rows, of_gradients.position, patches, here, sums);
        for (isize j = 0; j < std::min(row_block, count - r); ++j)
          for (isize k = 0; k < lanes; ++k) g[(r + j) * lanes + k] += sums[j][k];
      }
    }
  }

  /// g[r * columns + k] = gradient of weight (first_row + r, first_column + k), for a few rows. The numbers depend on
  /// row and column alone. `plane` is that of the shape.
  void gradient_of_few(const plane_layout& plane, isize first_row, isize rows, isize first_column, isize columns,
                       double* g) const {
    if (plane.fit) gradient_on_planes(plane, first_row, rows, first_column, columns, g);
    else gradient_by_columns(first_row, rows, first_column, columns, g);
  }

  /// to[t * pitch] = what weight column c meets at output positions first + t: 0 beyond the input, and beyond the last
  /// column.
  template <class Out>
  void write_patches(isize c, isize first, isize count, Out* to, isize pitch) const {
    if (c >= shape.columns()) {
      for (isize t = 0; t < count; ++t) to[t * pitch] = Out(0);
      return;
    }
    const isize kernel[3] = {c / (shape.kernel(1) * shape.kernel(2)) % shape.kernel(0),
                             c / shape.kernel(2) % shape.kernel(1), c % shape.kernel(2)};
    const U* const plane = input + c / shape.kernel_positions() * of_input.channel;
    isize z = first / (shape.output(1) * shape.output(2));
    isize y = first / shape.output(2) % shape.output(1);
    isize x = first % shape.output(2);
    const isize wide_output = shape.output(2);
    const isize step = shape.source(2, 1, 0) - shape.source(2, 0, 0);
    const isize left = shape.source(2, 0, kernel[2]);
    for (isize t = 0; t < count;) { // one line of the output at a time
      const isize in_z = shape.source(0, z, kernel[0]);
      const isize in_y = shape.source(1, y, kernel[1]);
      const bool inside = in_z >= 0 && in_z < shape.input(0) && in_y >= 0 && in_y < shape.input(1);
      const isize line = inside ? (in_z * shape.input(1) + in_y) * shape.input(2) : 0;
      const isize in_x = left + x * step;
      const isize n = std::min(count - t, wide_output - x);
      const isize begin = in_x < 0 ? std::min(n, (step - 1 - in_x) / step) : 0; // from here on within the input
      const isize end = inside ? std::clamp((shape.input(2) - in_x + step - 1) / step, begin, n) : begin;
      const isize apart = step * of_input.position;
      const U* const from = plane + line * of_input.position;
      const isize origin = in_x * of_input.position;
      Out* const line_to = to + t * pitch;
      for (isize k = 0; k < begin; ++k) line_to[k * pitch] = Out(0);
      if (pitch == 1 && apart == 1) // apart, so that the compiler may use vectors
        for (isize k = begin; k < end; ++k) line_to[k] = static_cast<Out>(from[origin + k]);
      else
        for (isize k = begin; k < end; ++k) line_to[k * pitch] = static_cast<Out>(from[origin + k * apart]);
      for (isize k = end; k < n; ++k) line_to[k * pitch] = Out(0);
      t += n;
      x = 0;
      if (++y == shape.output(1)) y = 0, ++z;
    }
  }

private:
  /// An image of these sizes, written out with such distances between neighbours.
  static void spread(const U* from, isize step, const isize (&size)[3], const isize (&pitch)[3], double* to) {
    for (isize z = 0; z < size[0]; ++z)
      for (isize y = 0; y < size[1]; ++y) {
        const U* const line = from + (z * size[1] + y) * size[2] * step;
        double* const line_to = to + z * pitch[0] + y * pitch[1];
        if (step == 1 && pitch[2] == 1) // apart, so that the compiler may use vectors
          for (isize x = 0; x < size[2]; ++x) line_to[x] = static_cast<double>(line[x]);
        else
          for (isize x = 0; x < size[2]; ++x) line_to[x * pitch[2]] = static_cast<double>(line[x * step]);
      }
  }

  DPOPT_HOT void gradient_on_planes(const plane_layout& p, isize first_row, isize rows, isize first_column,
                                    isize columns, double* g) const {
    double plane[plane_layout::room], e[plane_layout::room];
    const isize weights = p.weights();
    for (isize c = 0; c < columns;) { // an input channel at a time
      const isize channel = (first_column + c) / weights, first = (first_column + c) % weights;
      const isize here = std::min(weights - first, columns - c);
      std::fill_n(plane, p.total + chains, 0.0);
      spread(input + channel * of_input.channel, of_input.position, p.input, p.input_pitch, plane + p.origin);
      for (isize r = 0; r < rows; ++r) {
        std::fill_n(e, p.length, 0.0);
        spread(gradients + (first_row + r) * of_gradients.channel, of_gradients.position, p.output, p.output_pitch, e);
        double* const to = g + r * columns + c;
        vectorized([=, &e, &plane, &p]() DPOPT_FORCE_INLINE_LAMBDA {
          for (isize k = 0; k < here; ++k) to[k] = sum_of_products(e, plane + p.offset(first + k), p.length);
        });
      }
      c += here;
    }
  }

  /// The weight's columns one by one, written out some positions at a time.
  DPOPT_HOT void gradient_by_columns(isize first_row, isize rows, isize first_column, isize columns, double* g) const {
    double patches[position_tile], e[few_rows * position_tile]; // uninitialised: written before they are read
    const isize positions = shape.output_positions();
    std::fill_n(g, rows * columns, 0.0);
    for (isize t = 0; t < positions; t += position_tile) {
      const isize here = std::min(position_tile, positions - t);
      for (isize r = 0; r < rows; ++r)
        for (isize k = 0; k < here; ++k)
          e[r * position_tile + k] =
              static_cast<double>(gradients[(first_row + r) * of_gradients.channel + (t + k) * of_gradients.position]);
      for (isize c = 0; c < columns; ++c) {
        write_patches(first_column + c, t, here, patches, 1);
        vectorized([=, &patches, &e]() DPOPT_FORCE_INLINE_LAMBDA {
          for (isize r = 0; r < rows; ++r) g[r * columns + c] += sum_of_products(e + r * position_tile, patches, here);
        });
      }
    }
  }
};

} // namespace dpopt::detail::patch_products
