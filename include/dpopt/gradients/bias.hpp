// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// What is added to every position of a layer's output, one number a channel: the bias of linear, sequence and
/// convolution layers, the shift of LayerNorm, GroupNorm and InstanceNorm. A sample's gradient is the sum of its output
/// gradients over positions.
#pragma once

#include "dpopt/gradients/channel_layout.hpp"
#include "dpopt/gradients/per_sample_gradients.hpp"
#include "dpopt/gradients/sample_tiles.hpp"

#include <string>

namespace dpopt {

/// View of output gradients in any channel_layout. U is any storage type that converts to double.
///
/// Privacy: positions are summed in double, and the norm is taken of the very sums that are added, so that it is a
/// bound also where large output gradients cancel. Cost: the output gradients are read once for the norm and once for
/// the sum.
template <class U>
struct bias {
  const U* output_gradients = nullptr;
  channel_layout layout;

  [[nodiscard]] isize batch() const noexcept { return layout.batch; }
  [[nodiscard]] isize size() const noexcept { return layout.channels; }
  [[nodiscard]] isize block() const noexcept { return layout.block(static_cast<isize>(sizeof(U))); }
  [[nodiscard]] std::string problem() const { return layout.problem("bias"); }

  void add_squared_norms(samples range, double* squared_norms, workspace& scratch) const {
    detail::add_copied_norms(*this, range, squared_norms, scratch);
  }
  template <std::floating_point Out>
  void add_weighted_sum(samples range, const double* factors, Out* out, workspace& scratch) const {
    detail::add_copied_sum(*this, range, factors, out, scratch);
  }

  void copy_sample(isize sample, isize first, isize count, double scale, double* out) const {
    detail::sum_over_positions(layout, sample, first, count, scale, out,
                               [e = output_gradients](isize at) { return static_cast<double>(e[at]); });
  }
};
template <class U>
bias(const U*, channel_layout) -> bias<U>;

static_assert(PerSampleGradients<bias<float>, float> && SampleAccess<bias<float>> && CheckedSource<bias<float>>);

} // namespace dpopt
