// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The two factors of a convolution's gradient as tables: input patches (im2col) [weight columns x output positions]
/// and output gradients [rows x output positions]. Positions are neighbours, so that lines of an image are copied
/// whole.
#pragma once

#include "dpopt/gradients/convolution_geometry.hpp"
#include "dpopt/gradients/outer_products.hpp"
#include "dpopt/gradients/patch_products.hpp"

#include <algorithm>
#include <type_traits>

namespace dpopt::detail::patch_products {

/// What a table needs of a geometry, asked once.
class patch_table {
public:
  explicit patch_table(const convolution_geometry& g) noexcept {
    for (int axis = 0; axis < 3; ++axis) {
      input_[axis] = g.input(axis), output_[axis] = g.output(axis), kernel_[axis] = g.kernel(axis);
      origin_[axis] = g.source(axis, 0, 0);
      stride_[axis] = g.source(axis, 1, 0) - origin_[axis];
      dilation_[axis] = g.source(axis, 0, 1) - origin_[axis];
    }
  }

  /// to[(c - first_column) * pitch + t] = what weight column c meets at output position first + t; 0 beyond the input.
  template <class U, class Out>
  void write(const U* input, image_strides at, isize first_column, isize columns, isize first, isize count, Out* to,
             isize pitch) const {
    const isize weights = kernel_[0] * kernel_[1] * kernel_[2];
    isize channel = first_column / weights;
    isize k[3] = {first_column / (kernel_[1] * kernel_[2]) % kernel_[0], first_column / kernel_[2] % kernel_[1],
                  first_column % kernel_[2]};
    const isize start[3] = {first / (output_[1] * output_[2]), first / output_[2] % output_[1], first % output_[2]};
    for (isize c = 0; c < columns; ++c) {
      write_column(input + channel * at.channel, at.position, k, start, count, to + c * pitch);
      if (++k[2] < kernel_[2]) continue;
      k[2] = 0;
      if (++k[1] < kernel_[1]) continue;
      k[1] = 0;
      if (++k[0] < kernel_[0]) continue;
      k[0] = 0;
      ++channel;
    }
  }

private:
  /// One weight of one input channel, line by line of the output.
  template <class U, class Out>
  void write_column(const U* plane, isize apart, const isize (&k)[3], const isize (&start)[3], isize count,
                    Out* to) const {
    const isize left = origin_[2] + k[2] * dilation_[2];
    const isize wide = output_[2], step = stride_[2];
    const isize begin = left >= 0 ? 0 : std::min(wide, stride_[2] == 1 ? -left : (step - 1 - left) / step);
    const isize beyond = input_[2] - left; // positions of a line that lie within the input end before it
    const isize end = std::clamp(step == 1 ? beyond : (beyond + step - 1) / step, begin, wide);
    isize z = start[0], y = start[1], x = start[2];
    for (isize t = 0; t < count;) {
      const isize n = std::min(count - t, wide - x);
      const isize in_z = origin_[0] + z * stride_[0] + k[0] * dilation_[0];
      const isize in_y = origin_[1] + y * stride_[1] + k[1] * dilation_[1];
      const bool inside = in_z >= 0 && in_z < input_[0] && in_y >= 0 && in_y < input_[1];
      const isize from = inside ? std::clamp(begin, x, x + n) : x + n;
      const isize stop = inside ? std::clamp(end, from, x + n) : x + n;
      Out* const line = to + t;
      std::fill(line, line + (from - x), Out(0));
      if (from < stop)
        copy(plane + ((in_z * input_[1] + in_y) * input_[2] + left + from * step) * apart, step * apart, stop - from,
             line + (from - x));
      std::fill(line + (stop - x), line + n, Out(0));
      t += n;
      x = 0;
      if (++y == output_[1]) y = 0, ++z;
    }
  }

  template <class U, class Out>
  static void copy(const U* from, isize step, isize count, Out* to) noexcept {
    if (step == 1) // apart, so that the compiler may use vectors
      for (isize k = 0; k < count; ++k) to[k] = static_cast<Out>(from[k]);
    else
      for (isize k = 0; k < count; ++k) to[k] = static_cast<Out>(from[k * step]);
  }

  isize input_[3], output_[3], kernel_[3], origin_[3], stride_[3], dilation_[3];
};

/// to[r * pitch + t] = scale x output gradient of row r at position first + t.
template <class U, class Out>
void write_gradient_table(const U* gradients, image_strides at, isize rows, isize first, isize count, double scale,
                          Out* to, isize pitch) {
  for (isize r = 0; r < rows; ++r) {
    const U* const from = gradients + r * at.channel + first * at.position;
    Out* const row = to + r * pitch;
    if (at.position == 1 && scale != 1) scale_row(from, count, scale, row);
    else if (scale == 1)
      for (isize t = 0; t < count; ++t) row[t] = static_cast<Out>(from[t * at.position]);
    else
      for (isize t = 0; t < count; ++t) row[t] = narrowed<Out>(scale * static_cast<double>(from[t * at.position]));
  }
}

} // namespace dpopt::detail::patch_products
