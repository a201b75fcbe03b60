// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Where the numbers of samples, positions and channels lie: the layout of biases and normalization weights, whose
/// gradient is a sum over a sample's positions, channel by channel.
#pragma once

#include "dpopt/core/error.hpp"
#include "dpopt/core/types.hpp"
#include "dpopt/core/vector_dispatch.hpp"
#include "dpopt/gradients/per_sample_gradients.hpp"
#include "dpopt/gradients/stride_check.hpp"

#include <array>
#include <string>
#include <string_view>

namespace dpopt {

/// Number (sample, position, channel) lies at sample * sample_stride + position * position_stride + channel *
/// channel_stride; all in elements. Positions are those of a sequence (1 for plain rows) or the pixels of an image.
struct channel_layout {
  isize batch = 0;
  isize positions = 1;
  isize channels = 0;
  isize sample_stride = 0;
  isize position_stride = 0;
  isize channel_stride = 1;

  /// Dense [batch x positions x channels]: rows of a linear layer, sequences, NHWC.
  [[nodiscard]] static channel_layout channels_last(isize batch, isize positions, isize channels) noexcept {
    return {batch, positions, channels, positions * channels, channels, 1};
  }
  /// Dense [batch x channels x positions]: NCHW, with positions = height x width.
  [[nodiscard]] static channel_layout channels_first(isize batch, isize channels, isize positions) noexcept {
    return {batch, positions, channels, positions * channels, 1, positions};
  }

  /// Where number (sample, position, channel) lies.
  [[nodiscard]] isize at(isize sample, isize position, isize channel) const noexcept {
    return sample * sample_stride + position * position_stride + channel * channel_stride;
  }

  /// For samples of `bytes` bytes a number.
  [[nodiscard]] isize block(isize bytes) const noexcept { return samples_in_cache(positions * channels * bytes); }

  [[nodiscard]] std::string problem(std::string_view source) const {
    if (batch < 0 || positions < 0 || channels < 0)
      return message(source, ": the layout has a negative number of samples, positions or channels; give 0 or more");
    using extent = detail::dimension_extent;
    const bool apart = detail::samples_apart(
        {batch, sample_stride}, std::array{extent{positions, position_stride}, extent{channels, channel_stride}});
    return apart ? std::string() : detail::overlap_problem(source, "the layout's strides let");
  }
};

namespace detail {

/// The loops below for channels `stride` (Stride, unless that is 0) apart.
template <isize Stride, class Term>
DPOPT_FORCE_INLINE inline void sum_of_rows(isize positions, isize position_stride, isize stride, isize origin,
                                           isize count, double scale, double* out, const Term& term) {
  DPOPT_NO_CONTRACT_BLOCK
  const isize step = Stride != 0 ? Stride : stride;
  for (isize k = 0; k < count; ++k) out[k] = 0;
  for (isize t = 0; t < positions; ++t) {
    const isize row = origin + t * position_stride;
    for (isize k = 0; k < count; ++k) out[k] += term(row + k * step);
  }
  for (isize k = 0; k < count; ++k) out[k] *= scale;
}

/// out[k] = scale * sum over positions of term(offset of (sample, position, first + k)). The order of each sum depends
/// on the layout alone, never on which channels are asked for; scale comes last.
template <class Term>
void sum_over_positions(const channel_layout& at, isize sample, isize first, isize count, double scale, double* out,
                        const Term& term) {
  const isize origin = sample * at.sample_stride + first * at.channel_stride;
  if (at.position_stride == 1 && at.channel_stride != 1) {
    constexpr isize chains = 8; // eight sums at a time: vectors without free reordering
    for (isize k = 0; k < count; ++k) {
      const isize row = origin + k * at.channel_stride;
      double sums[chains] = {};
      isize t = 0;
      for (; t + chains <= at.positions; t += chains)
        for (isize j = 0; j < chains; ++j) sums[j] += term(row + t + j);
      for (; t < at.positions; ++t) sums[0] += term(row + t);
      double total = 0;
      for (const double s : sums) total += s;
      out[k] = scale * total;
    }
    return;
  }
  vectorized([=]() DPOPT_FORCE_INLINE_LAMBDA {
    if (at.channel_stride == 1) // apart, so that the compiler may use vectors
      sum_of_rows<1>(at.positions, at.position_stride, 1, origin, count, scale, out, term);
    else sum_of_rows<0>(at.positions, at.position_stride, at.channel_stride, origin, count, scale, out, term);
  });
}

} // namespace detail
} // namespace dpopt
