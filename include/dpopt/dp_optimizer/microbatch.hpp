// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// What a trainer says before it hands over the gradients of some samples.
#pragma once

#include "dpopt/core/types.hpp"
#include "dpopt/sampling/token.hpp"

namespace dpopt {

/// Argument of dp_optimizer::begin(). All samples of one record (unit of privacy) belong in one microbatch.
struct microbatch {
  /// Samples in this microbatch; 0 is valid (an empty Poisson batch) and still gets noise.
  isize samples = 0;

  /// Whether this is the last microbatch before step() on this rank. Known before its backward, so that reductions can
  /// start while backward runs; a further begin() before step() is then an error. False never hurts but for speed:
  /// step() posts whatever is left.
  bool last = true;

  /// Whether a whole logical batch ends here although the step goes on: adds 1 to accumulated_iterations, and so to the
  /// divisor. Physical parts of one logical batch leave it false: their number is private under Poisson sampling.
  /// Logical batches of one step must not share a record.
  bool ends_batch = false;

  /// True per-sample gradient = gradient_scale x what the source gives. A loss averaged over B samples has
  /// gradient_scale B (see gradient_scale_of); mixed precision with loss scale s has 1/s. Applied before clipping.
  /// Finite, and 0 only without samples.
  double gradient_scale = 1;

  /// Optional [samples] weights, public or independent of other samples, applied before clipping; 0 drops the sample
  /// everywhere (padding mask). Read until the microbatch is complete.
  const double* weights = nullptr;

  /// From the sampler of this logical batch; the default claims no amplification.
  sampling_token token = {};
};

/// The gradient_scale of a microbatch whose loss was reduced over `samples` samples, those of this backward pass and
/// rank, whatever the size of the logical batch: without it a mean loss gives gradients that are `samples` times too
/// small, which clipping then hides. A mean over tokens is one over samples of each sample's mean, when all have the
/// same number of them; where lengths differ, weight the loss yourself and reduce it by `sum`. loss_scale is that of
/// mixed precision, which the loss was multiplied with.
[[nodiscard]] inline double gradient_scale_of(loss_reduction reduction, isize samples, double loss_scale = 1) noexcept {
  return (reduction == loss_reduction::mean ? static_cast<double>(samples) : 1.0) / loss_scale;
}

} // namespace dpopt
