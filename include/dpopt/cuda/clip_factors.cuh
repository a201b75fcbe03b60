// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// From squared norms to the factors of a group: the device's compute_factors (dp_optimizer/contributions.hpp), with
/// its bits. Any trivially copyable rule whose call is DPOPT_DEVICE will do.
///
/// Launched by device_contributions, for one group or up to 164 at a time (rules of 8 bytes). 16 bytes (24
/// with weights) and about 20 operations in double a sample: at 4096 samples 0.014 us at 4.8 TB/s (H200), 0.033 us at
/// 2.0 TB/s (A100), far below the launch itself. 256 threads, 28 to 37 registers (75 to 100 % of a
/// multiprocessor), no shared memory.
#pragma once

#include "dpopt/core/types.hpp"
#include "dpopt/cuda/argument_table.hpp"
#include "dpopt/cuda/dialect.cuh"
#include "dpopt/dp_optimizer/microbatch.hpp"
#include "dpopt/gradients/per_sample_gradients.hpp"

#include <cmath>
#include <type_traits>

namespace dpopt {
struct private_counts;
}

namespace dpopt::cuda {

/// PRIVATE. private_counts on the device. Sums of integers: the same for any order of threads.
struct sample_counts {
  unsigned long long samples;
  unsigned long long clipped;
  unsigned long long non_finite;

  template <class Counts = dpopt::private_counts> // which contributions.hpp defines
  [[nodiscard]] Counts as_private_counts() const {
    return {static_cast<isize>(samples), static_cast<isize>(clipped), static_cast<isize>(non_finite)};
  }
};

/// A group of parameters: what its factors follow from.
template <class Rule>
struct group_norms {
  static_assert(std::is_trivially_copyable_v<Rule>, "rules cross into kernels by value");

  Rule rule;
  const double* squared_norms; ///< [batch]
  isize members;               ///< parameters whose norms were added up
};

/// What a microbatch says of its samples.
struct sample_weights {
  isize batch;
  const double* weights; ///< null: all are 1
  double gradient_scale;
};

/// One sample a thread, from `first` on: factors[i] = rule(|w_i| norm_i) w_i with w_i = gradient_scale x weights[i]; 0
/// for weight 0 and for what is not finite. Whole warps must come.
/// @param counts null: nobody counts; else one atomic a warp and number.
template <class Rule>
__device__ inline void clip_factors_from(isize first, const group_norms<Rule>& group, const sample_weights& m,
                                         double* factors, sample_counts* counts) {
  const isize i = first + threadIdx.x;
  bool clipped = false, non_finite = false;
  if (i < m.batch) {
    const double w = m.gradient_scale * (m.weights != nullptr ? m.weights[i] : 1.0);
    double factor = 0;
    if (w != 0) {
      const double squared = group.squared_norms[i];
      const double norm =
          std::sqrt(group.members > 1 ? upper_bound_of_sum(squared, group.members) : squared) * std::abs(w);
      const double scale = group.rule(norm);
      factor = scale * w;
      non_finite = !std::isfinite(norm) || !std::isfinite(factor);
      if (non_finite) factor = 0;
      else clipped = scale < 1;
    }
    factors[i] = factor;
  }
  if (counts == nullptr) return;
  const int seen_here = __popc(__ballot_sync(all_lanes, i < m.batch)); // whole warps, also where the batch ends
  const int clipped_here = __popc(__ballot_sync(all_lanes, clipped));
  const int non_finite_here = __popc(__ballot_sync(all_lanes, non_finite));
  if (threadIdx.x % warp_size != 0 || seen_here == 0) return;
  atomicAdd(&counts->samples, static_cast<unsigned long long>(seen_here));
  if (clipped_here != 0) atomicAdd(&counts->clipped, static_cast<unsigned long long>(clipped_here));
  if (non_finite_here != 0) atomicAdd(&counts->non_finite, static_cast<unsigned long long>(non_finite_here));
}

/// The factors of one group, [batch].
template <class Rule>
__global__ void clip_factors(group_norms<Rule> group, sample_weights m, double* factors, sample_counts* counts) {
  const isize threads = static_cast<isize>(blockDim.x);
  for (isize first = blockIdx.x * threads; first < m.batch; first += threads * gridDim.x)
    clip_factors_from(first, group, m, factors, counts);
}

/// The factors of each group of the table, [groups x batch]. A block `threads` samples of one group.
template <class Rule>
__global__ void clip_factors_of_many(argument_table<group_norms<Rule>> groups, sample_weights m, double* factors,
                                     sample_counts* counts) {
  const isize threads = static_cast<isize>(blockDim.x);
  const isize chunks = (m.batch + threads - 1) / threads;
  for (isize b = blockIdx.x; b < groups.size() * chunks; b += gridDim.x)
    clip_factors_from(b % chunks * threads, groups[b / chunks], m, factors + b / chunks * m.batch, counts);
}

[[nodiscard]] constexpr launch_shape clip_factors_shape(isize batch, isize groups = 1) noexcept {
  const isize chunks = batch / 256 + (batch % 256 == 0 ? 0 : 1);
  return cover(groups * chunks * 256);
}

/// Puts the factors of groups on the stream, [groups x samples], for a microbatch whose weights are in device memory.
/// @param at(k) what the k-th group is.
template <class Work, class At>
void launch_clip_factors(Work& on, isize groups, const At& at, const microbatch& m, double* factors,
                         sample_counts* counts) {
  using group = decltype(at(isize{}));
  using table = argument_table<group>;
  const sample_weights all{m.samples, m.weights, m.gradient_scale};
  if (groups == 1)
    return on.launch("clip factors", clip_factors_shape(m.samples), &clip_factors<decltype(group::rule)>, at(0), all,
                     factors, counts);
  for (isize first = 0; first < groups; first += table::capacity) {
    table some;
    for (isize k = first; k < groups && !some.full(); ++k) some.add(at(k));
    on.launch("clip factors of many groups", clip_factors_shape(m.samples, some.size()),
              &clip_factors_of_many<decltype(group::rule)>, some, all, factors + first * m.samples, counts);
  }
}

} // namespace dpopt::cuda
