// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Shape of a convolution over one, two or three dimensions, with stride, zero padding, dilation and groups.
#pragma once

#include "dpopt/core/error.hpp"
#include "dpopt/core/types.hpp"

#include <cstdint>
#include <string>

namespace dpopt {

/// Dimensions that are not named do not exist: {.input_size = {32, 32}, .kernel_size = {3, 3}} is a convolution over
/// images, and what stride, padding and dilation say of a third dimension is ignored. Padding is on both sides.
/// The weight is row-major [output channels x input channels / groups x kernel].
struct convolution_geometry {
  std::int32_t input_channels = 1;
  std::int32_t output_channels = 1;
  std::int32_t input_size[3] = {0, 0, 0};
  std::int32_t kernel_size[3] = {0, 0, 0};
  std::int32_t stride[3] = {1, 1, 1};
  std::int32_t padding[3] = {0, 0, 0};
  std::int32_t dilation[3] = {1, 1, 1};
  std::int32_t groups = 1;

  [[nodiscard]] bool exists(int d) const noexcept { return input_size[d] != 0 || kernel_size[d] != 0; }
  [[nodiscard]] int dimensions() const noexcept { return exists(2) ? 3 : exists(1) ? 2 : 1; }

  // By axis, where the last one named is axis 2, whose neighbours are neighbours in memory; others before have
  // length 1.
  [[nodiscard]] isize input(int axis) const noexcept { return named(axis) ? input_size[at(axis)] : 1; }
  [[nodiscard]] isize kernel(int axis) const noexcept { return named(axis) ? kernel_size[at(axis)] : 1; }
  [[nodiscard]] isize output(int axis) const noexcept { return named(axis) ? output_size(at(axis)) : 1; }
  /// Where in the input position `out` of the output meets weight `k`; outside of [0, input(axis)) is padding.
  [[nodiscard]] isize source(int axis, isize out, isize k) const noexcept {
    const int d = at(axis);
    return d < 0 ? 0 : out * stride[d] - padding[d] + k * dilation[d];
  }

  [[nodiscard]] isize input_positions() const noexcept { return input(0) * input(1) * input(2); }
  [[nodiscard]] isize output_positions() const noexcept { return output(0) * output(1) * output(2); }
  [[nodiscard]] isize kernel_positions() const noexcept { return kernel(0) * kernel(1) * kernel(2); }
  /// Output channels of a group: rows of its part of the weight.
  [[nodiscard]] isize rows() const noexcept { return output_channels / groups; }
  /// Weights of an output channel.
  [[nodiscard]] isize columns() const noexcept { return input_channels / groups * kernel_positions(); }

  /// What is wrong; empty when nothing is.
  [[nodiscard]] std::string problem() const {
    if (groups < 1 || input_channels < 1 || output_channels < 1 || input_channels % groups != 0 ||
        output_channels % groups != 0)
      return message("convolution: ", input_channels, " input and ", output_channels, " output channels in ", groups,
                     " groups; both must be multiples of the number of groups");
    if (!exists(0)) return "convolution: no dimension; name input_size and kernel_size of one to three";
    for (int d = 0; d < 3; ++d) {
      if (!exists(d)) continue;
      if (d > 0 && !exists(d - 1)) return message("convolution: dimension ", d, " exists and the one before does not");
      if (input_size[d] < 1 || kernel_size[d] < 1 || stride[d] < 1 || dilation[d] < 1 || padding[d] < 0)
        return message("convolution: in dimension ", d, " input size ", input_size[d], ", kernel size ", kernel_size[d],
                       ", stride ", stride[d], ", dilation ", dilation[d], ", padding ", padding[d],
                       "; padding may be 0, the others are 1 or more");
      if (output_size(d) < 1)
        return message("convolution: in dimension ", d, " the dilated kernel is longer than the padded input of ",
                       input_size[d], " + 2 x ", padding[d], "; there is no output");
    }
    return {};
  }

private:
  [[nodiscard]] int at(int axis) const noexcept { return axis - 3 + dimensions(); }
  [[nodiscard]] bool named(int axis) const noexcept { return at(axis) >= 0; }
  [[nodiscard]] isize output_size(int d) const noexcept {
    const isize left = input_size[d] + isize{2} * padding[d] - isize{dilation[d]} * (kernel_size[d] - isize{1}) - 1;
    return left < 0 ? 0 : left / stride[d] + 1;
  }
};

} // namespace dpopt
