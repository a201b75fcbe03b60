// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The weight (gain) of a normalization layer, y = weight * normalized + shift: a sample's gradient is the sum over its
/// positions of output gradient x normalized input, channel by channel. The shift is a `bias`.
///
/// LayerNorm (Ba et al. 2016, arXiv 1607.06450) and RMSNorm (Zhang and Sennrich 2019, arXiv 1910.07467): channels_last
/// with the positions of the sequence; over several dimensions, channels is their product. GroupNorm (Wu and He 2018,
/// arXiv 1803.08494) and InstanceNorm: channels_first, since statistics are shared by a group but weights are by
/// channel. Batch normalization mixes the samples of a batch: it has no per-sample gradients, and no source.
#pragma once

#include "dpopt/gradients/channel_layout.hpp"
#include "dpopt/gradients/per_sample_gradients.hpp"
#include "dpopt/gradients/sample_tiles.hpp"

#include <algorithm>
#include <string>

namespace dpopt {

/// View of output gradients and normalized inputs, (x - mean) / deviation before weight and shift, both in one layout
/// unless the inputs are given their own, of the same numbers of samples, positions and channels.
///
/// Privacy: products and sums are in double, and the norm is taken of the very sums that are added.
/// Cost: both arrays are read once for the norm and once for the sum.
template <class U>
struct normalization_weight {
  const U* normalized = nullptr;
  const U* output_gradients = nullptr;
  channel_layout layout; ///< of the output gradients
  channel_layout normalized_layout = layout;

  [[nodiscard]] isize batch() const noexcept { return layout.batch; }
  [[nodiscard]] isize size() const noexcept { return layout.channels; }
  [[nodiscard]] isize block() const noexcept { return layout.block(2 * static_cast<isize>(sizeof(U))); }
  [[nodiscard]] std::string problem() const {
    const channel_layout& x = normalized_layout;
    if (std::string text = layout.problem("normalization_weight"); !text.empty()) return text;
    if (x.batch != layout.batch || x.positions != layout.positions || x.channels != layout.channels)
      return "normalization_weight: the two layouts differ in samples, positions or channels; only strides may differ";
    return normalized_layout.problem("normalization_weight");
  }

  void add_squared_norms(samples range, double* squared_norms, workspace& scratch) const {
    detail::add_copied_norms(*this, range, squared_norms, scratch);
  }
  template <std::floating_point Out>
  void add_weighted_sum(samples range, const double* factors, Out* out, workspace& scratch) const {
    detail::add_copied_sum(*this, range, factors, out, scratch);
  }

  void copy_sample(isize sample, isize first, isize count, double scale, double* out) const {
    const channel_layout& of_x = normalized_layout;
    if (of_x.sample_stride == layout.sample_stride && of_x.position_stride == layout.position_stride &&
        of_x.channel_stride == layout.channel_stride)
      return detail::sum_over_positions(layout, sample, first, count, scale, out,
                                        [x = normalized, e = output_gradients](isize at) {
                                          return static_cast<double>(e[at]) * static_cast<double>(x[at]);
                                        });
    std::fill_n(out, count, 0.0);
    for (isize t = 0; t < layout.positions; ++t) {
      const U* const e = output_gradients + layout.at(sample, t, first);
      const U* const x = normalized + of_x.at(sample, t, first);
      for (isize k = 0; k < count; ++k)
        out[k] += static_cast<double>(e[k * layout.channel_stride]) * static_cast<double>(x[k * of_x.channel_stride]);
    }
    for (isize k = 0; k < count; ++k) out[k] *= scale;
  }
};
template <class U>
normalization_weight(const U*, const U*, channel_layout) -> normalization_weight<U>;
template <class U>
normalization_weight(const U*, const U*, channel_layout, channel_layout) -> normalization_weight<U>;

static_assert(PerSampleGradients<normalization_weight<float>, float> && SampleAccess<normalization_weight<float>>);
static_assert(CheckedSource<normalization_weight<float>>);

} // namespace dpopt
