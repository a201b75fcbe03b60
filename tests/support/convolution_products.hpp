// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// A convolution by its definition over three dimensions.
#pragma once

#include "dpopt/core/types.hpp"
#include "dpopt/gradients/convolution_geometry.hpp"

#include <array>
#include <cstddef>

namespace dpopt::test {

/// Calls f(output channel, output position, weight, input) with each product; `weight` and `input` are indices, padding
/// is left out.
template <class F>
void for_each_product(const convolution_geometry& g, const F& f) {
  std::array<isize, 3> in{1, 1, 1}, kernel{1, 1, 1}, out{1, 1, 1};
  for (std::size_t d = 0; d < 3 && g.input_size[d] > 0; ++d) {
    in[d] = g.input_size[d], kernel[d] = g.kernel_size[d];
    out[d] = (in[d] + 2 * g.padding[d] - g.dilation[d] * (kernel[d] - 1) - 1) / g.stride[d] + 1;
  }
  const isize in_group = g.input_channels / g.groups, out_group = g.output_channels / g.groups;
  for (isize o = 0; o < g.output_channels; ++o)
    for (isize t = 0; t < out[0] * out[1] * out[2]; ++t)
      for (isize c = 0; c < in_group; ++c)
        for (isize k = 0; k < kernel[0] * kernel[1] * kernel[2]; ++k) {
          const std::array<isize, 3> to{t / (out[1] * out[2]), t / out[2] % out[1], t % out[2]};
          const std::array<isize, 3> by{k / (kernel[1] * kernel[2]), k / kernel[2] % kernel[1], k % kernel[2]};
          isize at = o / out_group * in_group + c;
          bool inside = true;
          for (std::size_t d = 0; d < 3; ++d) {
            const isize x = to[d] * g.stride[d] - g.padding[d] + by[d] * g.dilation[d];
            inside = inside && x >= 0 && x < in[d];
            at = at * in[d] + x;
          }
          if (inside) f(o, t, (o * in_group + c) * kernel[0] * kernel[1] * kernel[2] + k, at);
        }
}

} // namespace dpopt::test
