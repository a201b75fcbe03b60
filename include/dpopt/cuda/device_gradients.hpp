// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The DeviceGradients role: PerSampleGradients on the device. A trivially copyable view of ONE parameter's per-sample
/// gradients of one microbatch, whose pointers are device memory and which says what to launch for each question.
/// Satisfied by cuda::materialized, cuda::linear_weight, cuda::linear_sequence, cuda::embedding.
///
/// Privacy contract: the core's, gradients/per_sample_gradients.hpp: the norms bound what the sum adds, factor 0 is a
/// sample that is not read. What a view points to must stay as it is until the work that was put on the stream for its
/// group is done; work that follows on the same stream may overwrite it.
#pragma once

#include "dpopt/cuda/device_work.hpp"
#include "dpopt/gradients/per_sample_gradients.hpp"

#include <concepts>
#include <cstdint>
#include <string>

namespace dpopt::cuda {

template <class S, class D, class V>
concept DeviceGradients =
    GradientView<S> && requires(const S s, device_work<D>& on, double* squared_norms, const double* factors, V* out) {
      { s.batch() } -> std::same_as<isize>;   // samples in the microbatch
      { s.size() } -> std::same_as<isize>;    // elements of the parameter
      s.add_squared_norms(on, squared_norms); // [batch] += |g_i|^2, an upper bound
      s.add_weighted_sum(on, factors, out);   // [size] += sum_i factors[i] g_i
    };

/// Optional: parameters that are small can be answered for together, many_parameters.cuh. Both questions are then asked
/// of view(): a type derived from one of these that answers one of them otherwise says false to shares_launches(), or
/// its norms bound nothing.
template <class S>
concept SharesLaunches = requires(const S s) {
  { s.shares_launches() } -> std::same_as<bool>; // small enough for it
  s.view();                                      // one of rows.cuh, with elements()
};

/// A source whose numbers stay as they are until the work of the step, or of the next begin(), is on the stream, and
/// not only until its group is complete: kept(source). Small parameters then share launches also where each is a group
/// of its own. NEVER for memory that the backward pass uses again, nor with weights that are: sums would be of other
/// numbers than the norms, which bound nothing then.
template <class S>
struct kept : S {
  explicit kept(const S& source) : S(source) {}
};

/// How a number becomes units of an integer grid: truncate(number x per_unit), or nothing when it is not below limit.
struct grid_scale {
  double per_unit = 1;
  double limit = 0;
};

/// Optional: contributions written on an integer grid, sample by sample.
template <class S, class D>
concept GridGradients = requires(const S s, device_work<D>& on, const double* factors, grid_scale grid,
                                 std::int64_t* out) { s.add_grid_sum(on, factors, grid, out); };

/// An accumulator on the device: what to do with a source. The sums themselves are the optimizer's.
template <class A>
concept DeviceAccumulator = std::copyable<A> && requires(A a, const A k, double largest_norm) {
  typename A::value_type;
  a.bind(largest_norm); // bounds one sample's contribution; throws invalid_argument
  { k.unit() } -> std::same_as<double>;
  { k.describe() } -> std::same_as<std::string>;
};

/// Whether sources of type S can be added to A's sums.
template <class A, class S, class D>
concept DeviceAccumulatesFrom = requires(const A a, device_work<D>& on, const S source, const double* factors,
                                         typename A::value_type* at) { a.add(on, source, factors, at); };

} // namespace dpopt::cuda
