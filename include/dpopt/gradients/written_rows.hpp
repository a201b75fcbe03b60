// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Sources that write the gradients of a few samples out when asked. Norm and sum of a parameter that is clipped by
/// itself are then read from rows in cache, and each sample's products are made once instead of twice; rows of a norm
/// that several parameters share wait (dp_optimizer/waiting_rows.hpp).
///
/// Satisfied by convolution_weight and linear_sequence. Rows are made in the type V of the sum.
///
/// Privacy: the norm is of the very numbers that are added, rounding of the products included, so that no bound on that
/// rounding has to be added to it. A row whose numbers may have left the range of V (rows_hold) is not used: its sample
/// is answered by the source's two questions, whatever its neighbours' are.
#pragma once

#include "dpopt/core/types.hpp"
#include "dpopt/core/workspace.hpp"
#include "dpopt/gradients/per_sample_gradients.hpp"

#include <algorithm>
#include <concepts>
#include <limits>

namespace dpopt {

/// Optional for a source. Contract: a row depends on its sample alone, and any NaN or Inf in the gradient makes a
/// number of it NaN or Inf; rows_are_cheaper() depends on the shape of a sample alone, which is public, neither on data
/// nor on their number.
template <class S, class V>
concept WritesRows = std::floating_point<V> && requires(const S s, samples range, V* rows, workspace& scratch) {
  { s.rows_are_cheaper() } -> std::same_as<bool>;
  s.write_rows(range, rows, scratch); // rows[i * size() + k] = number k of sample range.first + i
};

/// Whether a row of V has all of its gradient, given its squared norm. Products below the smallest number of V vanish:
/// from 1e-25 on, what they could add to the norm is far below the rounding of the others.
template <std::floating_point V>
[[nodiscard]] inline bool rows_hold(double squared_norm) noexcept {
  return squared_norm >= 1e-50 && squared_norm <= std::numeric_limits<double>::max();
}

/// How many rows of `size` numbers are written at a time: few enough for the second-level cache beside the factors
/// they are made from, and for a network of little memory.
template <std::floating_point V>
[[nodiscard]] inline isize rows_at_once(isize size) noexcept {
  constexpr isize room = 32 * 1024;
  const isize bytes = std::max<isize>(1, size) * static_cast<isize>(sizeof(V));
  return std::max<isize>(bytes <= room ? 2 : 1, room / bytes);
}

namespace detail {

/// Whether sums of T outer products [p x d] are best written out: a row is written, read twice and added, which grows
/// with d p; a norm without it reads T (d + p) numbers in double and multiplies them. The factor is measured
/// (bench/lab-notes.md). Rows beyond a second-level cache are not: they would come from memory each time, and a network
/// that keeps factors has no room for them.
[[nodiscard]] inline bool rows_are_cheaper(isize positions, isize d, isize p, isize size) noexcept {
  const double t = static_cast<double>(positions);
  return size <= 256 * 1024 && 8 * t * static_cast<double>(d + p) >= static_cast<double>(d) * static_cast<double>(p);
}

} // namespace detail
} // namespace dpopt
