// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// From squared norms to the factors of a group: the device's compute_factors (dp_optimizer/contributions.hpp), with
/// its bits. Any trivially copyable rule whose call is DPOPT_DEVICE will do.
///
/// Launched by device_contributions. 24 bytes and about 20 operations in double a sample: at 4096 samples 0.02 us at
/// 4.8 TB/s (H200), 0.05 us at 2.0 TB/s (A100), far below the launch itself. 256 threads, 28 to 37 registers (75 to
/// 100 % of a multiprocessor), no shared memory.
#pragma once

#include "dpopt/core/types.hpp"
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

/// factors[i] = rule(|w_i| norm_i) w_i with w_i = gradient_scale x weights[i]; 0 for weight 0 and for what is not
/// finite. A thread a sample.
/// @param members parameters whose norms were added up in squared_norms. @param weights null: all are 1.
/// @param counts null: nobody counts; else one atomic a warp and number.
template <class Rule>
__global__ void clip_factors(Rule rule, const double* squared_norms, isize batch, isize members, const double* weights,
                             double gradient_scale, double* factors, sample_counts* counts) {
  static_assert(std::is_trivially_copyable_v<Rule>, "rules cross into kernels by value");
  const isize threads = static_cast<isize>(blockDim.x);
  const int lane = static_cast<int>(threadIdx.x) % warp_size;
  for (isize first = blockIdx.x * threads; first < batch; first += threads * gridDim.x) {
    const isize i = first + threadIdx.x;
    bool clipped = false, non_finite = false;
    if (i < batch) {
      const double w = gradient_scale * (weights != nullptr ? weights[i] : 1.0);
      double factor = 0;
      if (w != 0) {
        const double whole = members > 1 ? upper_bound_of_sum(squared_norms[i], members) : squared_norms[i];
        const double norm = std::sqrt(whole) * std::abs(w);
        const double scale = rule(norm);
        factor = scale * w;
        non_finite = !std::isfinite(norm) || !std::isfinite(factor);
        if (non_finite) factor = 0;
        else clipped = scale < 1;
      }
      factors[i] = factor;
    }
    if (counts == nullptr) continue;
    const int seen_here = __popc(__ballot_sync(all_lanes, i < batch)); // whole warps, also where the batch ends
    const int clipped_here = __popc(__ballot_sync(all_lanes, clipped));
    const int non_finite_here = __popc(__ballot_sync(all_lanes, non_finite));
    if (lane != 0 || seen_here == 0) continue;
    atomicAdd(&counts->samples, static_cast<unsigned long long>(seen_here));
    if (clipped_here != 0) atomicAdd(&counts->clipped, static_cast<unsigned long long>(clipped_here));
    if (non_finite_here != 0) atomicAdd(&counts->non_finite, static_cast<unsigned long long>(non_finite_here));
  }
}

[[nodiscard]] constexpr launch_shape clip_factors_shape(isize batch) noexcept { return cover(batch); }

/// Puts clip_factors on the stream for a microbatch whose weights are in device memory.
template <class Work, class Rule>
void launch_clip_factors(Work& on, const Rule& rule, const double* squared_norms, const microbatch& m, isize members,
                         double* factors, sample_counts* counts) {
  on.launch("clip factors", clip_factors_shape(m.samples), clip_factors<Rule>, rule, squared_norms, m.samples, members,
            m.weights, m.gradient_scale, factors, counts);
}

} // namespace dpopt::cuda
