// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// One sample and one group of channels of a convolution as the two factors of a matrix product: output gradients and
/// input patches (im2col), written out some positions or columns at a time.
#pragma once

#include "dpopt/gradients/convolution_geometry.hpp"
#include "dpopt/gradients/per_sample_gradients.hpp"
#include "dpopt/gradients/product.hpp"

#include <algorithm>

namespace dpopt::detail::patch_products {

inline constexpr isize lanes = 8;           // columns that gradient() makes at once
inline constexpr isize row_block = 4;       // rows that it makes at once
inline constexpr isize position_tile = 256; // positions written out at a time: what a product takes at once

/// sums[r][k] = sum over t of rows[r][t] * columns[t * lanes + k].
template <class U>
inline void multiply(const U* const (&rows)[row_block], const double* columns, isize count,
                     double (&sums)[row_block][lanes]) noexcept {
  for (isize r = 0; r < row_block; ++r) std::fill_n(sums[r], lanes, 0.0);
  for (isize t = 0; t < count; ++t)
    for (isize r = 0; r < row_block; ++r) {
      const double e = static_cast<double>(rows[r][t]);
      for (isize k = 0; k < lanes; ++k) sums[r][k] += e * columns[t * lanes + k];
    }
}

template <class U>
struct of_sample {
  const convolution_geometry& shape;
  const U* input;     // [channels of the group x input positions]
  const U* gradients; // [rows x output positions]

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
          rows[j] = gradients + (first_row + std::min(r + j, count - 1)) * positions + t;
        double sums[row_block][lanes];
        multiply(rows, patches, here, sums);
        for (isize j = 0; j < std::min(row_block, count - r); ++j)
          for (isize k = 0; k < lanes; ++k) g[(r + j) * lanes + k] += sums[j][k];
      }
    }
  }

  /// to[t] = output gradient of row r at position t.
  void write_gradient_row(isize r, double* to) const {
    const U* const row = gradients + r * shape.output_positions();
    for (isize t = 0; t < shape.output_positions(); ++t) to[t] = static_cast<double>(row[t]);
  }

  /// to[t * rows + r] = scale * output gradient of row r at position first + t.
  template <class Out>
  void write_gradients(isize first, isize count, double scale, Out* to) const {
    const isize rows = shape.rows(), positions = shape.output_positions();
    for (isize r = 0; r < rows; ++r)
      for (isize t = 0; t < count; ++t)
        to[t * rows + r] = narrowed<Out>(scale * static_cast<double>(gradients[r * positions + first + t]));
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
    const U* const plane = input + c / shape.kernel_positions() * shape.input_positions();
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
      const U* const from = plane + line;
      Out* const line_to = to + t * pitch;
      for (isize k = 0; k < begin; ++k) line_to[k * pitch] = Out(0);
      for (isize k = begin; k < end; ++k) line_to[k * pitch] = static_cast<Out>(from[in_x + k * step]);
      for (isize k = end; k < n; ++k) line_to[k * pitch] = Out(0);
      t += n;
      x = 0;
      if (++y == shape.output(1)) y = 0, ++z;
    }
  }
};

} // namespace dpopt::detail::patch_products
