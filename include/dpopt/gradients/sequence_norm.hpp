// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The norm of a sum of outer products G = sum over t of e_t a_t^T, in one of two ways, both in double: from the Gram
/// matrices of the rows, |G|^2 = sum over s, t of (e_s . e_t)(a_s . a_t) (ghost norm: Li et al. 2022, arXiv 2110.05679,
/// sec. 4; Bu et al. 2022, arXiv 2205.10683, eq. 2.2), or by making G some rows at a time.
///
/// Privacy: rows may be long and cancel, and then rounding is large beside |G|. With L = sum over t of |e_t| |a_t|, all
/// errors are below a multiple of L, which is added to the norm: those of the Gram matrices (which are only used while
/// that is below 1e-7 of |G|^2; in float it never would be), and those of adding T rows to the sum in the narrower
/// type.
#pragma once

#include "dpopt/core/platform.hpp"
#include "dpopt/gradients/per_sample_gradients.hpp"
#include "dpopt/gradients/product.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <type_traits>

namespace dpopt::detail {

/// Whether Gram matrices of T positions cost less than the gradient [p x d]: T^2 (d + p) / 2 against T d p, where the
/// triangle is made in blocks and its operands are transposed first; the factor is measured
/// (bench/gradients_bench.cpp).
[[nodiscard]] DPOPT_DEVICE inline bool gram_is_cheaper(isize positions, isize d, isize p) noexcept {
  const double t = static_cast<double>(positions);
  return positions <= 1024 && // beyond, two matrices of doubles would take 16 MiB
         0.85 * t * static_cast<double>(d + p) <= static_cast<double>(d) * static_cast<double>(p);
}

inline constexpr isize gram_features = 128, gram_rows = 64; // a band of the triangle at a time

/// Doubles that the Gram matrices of n rows take from scratch memory.
[[nodiscard]] inline isize gram_room(isize n) noexcept {
  return 2 * n * n + gram_features * n + portable_product::room<double>(std::min(gram_rows, n));
}

/// Has `numbers` doubles in use for a moment, room for several arrays. Which way a sample goes depends on its numbers:
/// a later step must not go to the heap for the first sample that goes the other way, nor workspace_bytes() tell of it.
inline void take_for_either_way(workspace& scratch, isize numbers) {
  constexpr isize between_arrays = 64; // a line each
  const workspace::scope scope(scratch);
  static_cast<void>(scratch.take<double>(numbers + between_arrays));
}

/// gram[s * pitch + t] = sum over k < width of x_k[s] x_k[t] for s <= t; write(first, count, to) writes x_first and the
/// following, n numbers each, one behind the other.
template <class Write>
void gram_of_columns(isize n, isize width, const Write& write, double* gram, isize pitch, workspace& scratch) {
  const workspace::scope scope(scratch);
  double* const x = scratch.take<double>(gram_features * n);
  for (isize s = 0; s < n; ++s) std::fill_n(gram + s * pitch, n, 0.0);
  for (isize k = 0; k < width; k += gram_features) {
    const isize here = std::min(gram_features, width - k);
    write(k, here, x);
    for (isize s = 0; s < n; s += gram_rows) {
      const strided_rows<const double> from_s{x + s, n};
      portable_product{}.add(std::min(gram_rows, n - s), n - s, here, from_s, from_s,
                             strided_rows<double>{gram + s * pitch + s, pitch}, scratch);
    }
  }
}

/// gram[s * pitch + t] = row(s) . row(t) for s <= t. Rows have `width` numbers.
template <class Row>
void gram_of_rows(isize n, isize width, const Row& row, double* gram, isize pitch, workspace& scratch) {
  const auto transpose = [&](isize first, isize count, double* to) {
    for (isize t = 0; t < n; ++t) {
      const auto* const from = row(t) + first;
      for (isize j = 0; j < count; ++j) to[j * n + t] = static_cast<double>(from[j]);
    }
  };
  gram_of_columns(n, width, transpose, gram, pitch, scratch);
}

/// What is known of G: an upper bound on its squared norm, or -1 where rounding leaves that too wide; and L.
struct sequence_squares {
  double squares = -1;
  double lengths = 0;
};

/// From the upper triangles of two Gram matrices. roundings: numbers added for each of their elements, both together.
template <class U>
[[nodiscard]] sequence_squares squares_of_grams(isize n, const double* e, const double* a, isize roundings) noexcept {
  sequence_squares out;
  double squares = 0;
  for (isize s = 0; s < n; ++s) {
    const double* const es = e + s * n;
    const double* const as = a + s * n;
    if (sizeof(U) > sizeof(float) && !(es[s] > 1e-140 && as[s] > 1e-140)) return out; // products might underflow
    double crossed = 0;
    for (isize t = s + 1; t < n; ++t) crossed += es[t] * as[t];
    squares += es[s] * as[s] + 2 * crossed;
    out.lengths += std::sqrt(es[s]) * std::sqrt(as[s]);
  }
  // Each sum errs by less than its length times epsilon times its magnitudes (Higham 2002, eq. 3.5), which by Cauchy
  // and Schwarz add up to at most L^2.
  const double error =
      static_cast<double>(roundings + 2 * n + 16) * std::numeric_limits<double>::epsilon() * out.lengths * out.lengths;
  if (error <= 1e-7 * squares || out.lengths == 0) out.squares = squares + error;
  return out;
}

/// An upper bound on the squared norm of what n rows, added one by one to a sum of which they are the first, leave
/// there. Each row's product is rounded thrice and each addition once, in double for doubles and else perhaps in float.
template <class U>
[[nodiscard]] DPOPT_DEVICE double squares_as_added(sequence_squares g, isize n) noexcept {
  using narrowest = std::conditional_t<(sizeof(U) > sizeof(float)), double, float>;
  if (n <= 1) return g.squares; // a source's own margins cover one row
  const double unit = 0.505 * static_cast<double>(std::numeric_limits<narrowest>::epsilon());
  const double norm = std::sqrt(g.squares) + static_cast<double>(n + 4) * unit * g.lengths;
  return upper_bound_of_sum(norm * norm, 4);
}

} // namespace dpopt::detail
