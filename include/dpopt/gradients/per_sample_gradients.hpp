// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The PerSampleGradients role: a trivially copyable view of ONE parameter's per-sample gradients of one microbatch.
///
/// Satisfied by materialized, linear_weight, callback, the combinations tied, units and preconditioned, and your own
/// layer's struct. The library never asks for a
/// [samples x parameters] tensor; it asks two questions, each over a range of samples.
///
/// Privacy contract:
///  - add_squared_norms gives an UPPER bound on the squared norm of what add_weighted_sum adds at factor 1, rounding
///    included, always in double; any NaN or Inf in a sample's gradient makes its number NaN or Inf;
///  - factor 0 means SKIP: the sample's data is not read, because it may be NaN and 0 * NaN is not 0;
///  - |what is added| <= factor x gradient in norm: use rounded_down() to narrow a factor. (Products below the smallest
///    normal number may round up; the clipping rules' constant of 1e-6 is far above what they can add.)
#pragma once

#include "dpopt/core/error.hpp"
#include "dpopt/core/platform.hpp"
#include "dpopt/core/types.hpp"
#include "dpopt/core/workspace.hpp"

#include <algorithm>
#include <cmath>
#include <concepts>
#include <limits>
#include <string>
#include <type_traits>

namespace dpopt {

/// Bytes of a source kept inline while its group's factors wait for other parameters.
inline constexpr std::size_t source_capacity = 192;

/// What is kept by copying its bytes: small and trivially copyable.
template <class S>
concept GradientView = std::is_trivially_copyable_v<S> && sizeof(S) <= source_capacity && alignof(S) <= 16;

template <class S, class Out>
concept PerSampleGradients = GradientView<S> && requires(const S s, samples range, double* squared_norms,
                                                         const double* factors, Out* out, workspace& scratch) {
  { s.batch() } -> std::same_as<isize>;               // samples in the microbatch
  { s.size() } -> std::same_as<isize>;                // elements of the parameter
  { s.block() } -> std::same_as<isize>;               // samples whose two questions are best asked back to back; >= 1
  s.add_squared_norms(range, squared_norms, scratch); // squared_norms[0 .. range.count) += |g_i|^2
  s.add_weighted_sum(range, factors, out, scratch);   // out[0 .. size) += sum_i factors[i] g_i
};

/// Optional: one sample's gradient by itself, for exact accumulators, combinations of sources and test oracles.
///
/// Contract: at scale 1 the numbers of a whole sample have no larger norm than add_squared_norms says, up to two
/// roundings each; scale adds at most one more; they depend on the sample alone, not on which part is asked for. A
/// source that needs memory for it has a second copy_sample, with a workspace& behind, which steps call instead.
template <class S>
concept SampleAccess = requires(const S s, isize sample, isize first, isize count, double scale, double* out) {
  s.copy_sample(sample, first, count, scale, out); // out[k] = scale * g_sample[first + k]
};

/// Optional: a sample's gradient lies in memory as it is, row(sample)[0 .. size).
template <class S>
concept RowAccess = requires(const S s, isize sample) {
  { static_cast<double>(*s.row(sample)) };
};

/// Optional: a source that can be put together wrongly says what is wrong, in one sentence, or nothing. gradient_ready
/// asks before anything else, and step() raises it on all ranks with the parameter's name.
template <class S>
concept CheckedSource = requires(const S s) {
  { s.problem() } -> std::same_as<std::string>;
};

/// For block(): as many samples as half of a common L2 cache holds, so that the sum reads them from cache after the
/// norms; two where they and the sum are as large as that, so that the sum is written half as often.
[[nodiscard]] inline isize samples_in_cache(isize bytes_each) noexcept {
  constexpr isize room = 256 * 1024;
  return std::max<isize>(bytes_each <= room ? 2 : 1, room / std::max<isize>(1, bytes_each));
}

/// What is wrong with a source; empty when nothing is known to be.
template <class S>
[[nodiscard]] std::string source_problem(const S& source) {
  if constexpr (CheckedSource<S>) return source.problem();
  else return {};
}

/// The type in which a factor meets a source's numbers: double where they are wider than the sum, because 1e100 has no
/// float although its clipped share has.
template <class U, std::floating_point Out>
using product_type = std::conditional_t<(sizeof(U) > sizeof(Out)), double, Out>;

/// x in type P, never larger in magnitude where rounding to nearest could be off by much: among subnormal numbers, and
/// beyond the largest one, which takes the place of infinity (0 * infinity would be NaN).
template <std::floating_point P>
[[nodiscard]] DPOPT_DEVICE inline P narrowed(double x) noexcept {
  const P nearest = static_cast<P>(x);
  const P magnitude = std::abs(nearest);
  if (magnitude >= std::numeric_limits<P>::min() && magnitude <= std::numeric_limits<P>::max()) return nearest;
  return static_cast<double>(magnitude) > std::abs(x) ? std::nextafter(nearest, P(0)) : nearest;
}

/// Whether narrowed<P>(x) is not x to within a rounding: digits were lost below the normal numbers, or it was cut at
/// the largest. What cancels it may have lost other ones, and a huge number that it is multiplied by makes that count.
template <std::floating_point P>
[[nodiscard]] DPOPT_DEVICE inline bool leaves_range(double x) noexcept {
  const double magnitude = std::abs(x);
  return (magnitude > 0 && magnitude < static_cast<double>(std::numeric_limits<P>::min())) ||
         magnitude > static_cast<double>(std::numeric_limits<P>::max());
}

/// What is lost below the normal numbers is absolute, at most half of the smallest number: factors up to this one leave
/// it far below any bound.
inline constexpr double enlarges_losses = 0x1p20;

/// What rounded_down() leaves of a factor.
template <std::floating_point Out>
inline constexpr double room_for_roundings = 1.0 - 4.0 * static_cast<double>(std::numeric_limits<Out>::epsilon());

/// Narrows a factor to the type it is multiplied in, towards zero and with room for the roundings in Out that follow
/// (at most four, each relative to half an ulp), so that no contribution exceeds its bound.
template <std::floating_point Out, std::floating_point Product = Out>
[[nodiscard]] DPOPT_DEVICE inline Product rounded_down(double factor) noexcept {
  return narrowed<Product>(factor * room_for_roundings<Out>);
}

/// Inflates a computed sum of n squares by the largest relative error of its summation (Higham 2002, eq. 4.4, with
/// gamma_n < 1.01 n u), which makes it an upper bound.
[[nodiscard]] DPOPT_DEVICE inline double upper_bound_of_sum(double computed, isize n) noexcept {
  return computed * (1.0 + 1.01 * static_cast<double>(n + 2) * std::numeric_limits<double>::epsilon());
}

/// Below this a square, or a product of two, may have lost up to half of the smallest number there is. From here on the
/// spare half of upper_bound_of_sum's margin, n eps / 2 of the sum, covers that for each of n terms.
inline constexpr double underflow_matters_below = 2 * std::numeric_limits<double>::min();

/// Sum of squares in double, eight independent chains so that the compiler may use vectors without reordering freely.
/// An upper bound also where squares underflow (norms below 1e-154), because a huge gradient scale may follow; exactly
/// 0 for zeros.
template <class U>
[[nodiscard]] DPOPT_FORCE_INLINE inline double squared_norm(const U* x, isize n) noexcept {
  DPOPT_NO_CONTRACT_BLOCK
  constexpr isize chains = 8;
  double sums[chains] = {};
  isize k = 0;
  for (; k + chains <= n; k += chains)
    for (isize j = 0; j < chains; ++j) sums[j] += static_cast<double>(x[k + j]) * static_cast<double>(x[k + j]);
  for (; k < n; ++k) sums[0] += static_cast<double>(x[k]) * static_cast<double>(x[k]);
  double total = 0;
  for (double s : sums) total += s;
  if constexpr (sizeof(U) > sizeof(float)) // squares of narrower numbers do not underflow
    if (total < underflow_matters_below)
      for (isize i = 0; i < n; ++i)
        if (x[i] != 0)
          return upper_bound_of_sum(total, n) + static_cast<double>(n) * std::numeric_limits<double>::denorm_min();
  return upper_bound_of_sum(total, n);
}

} // namespace dpopt
