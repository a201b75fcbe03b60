// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The Accumulator role: where clipped contributions are summed, and the type that crosses the wire. The accumulator
/// calls the source, so it may ask for what it needs. Satisfied by running_sum and compensated_sum of float or
/// double, integer_grid.
///
/// Privacy contract: what a sample adds has at most the norm that its factor allows; converting to value_type never
/// makes it larger. One unit of value_type stands for unit() in gradient units.
#pragma once

#include "dpopt/core/types.hpp"
#include "dpopt/core/workspace.hpp"
#include "dpopt/gradients/written_rows.hpp"

#include <concepts>
#include <string>

namespace dpopt {

template <class A>
concept Accumulator = std::movable<A> && requires(A a, const A k, isize n, double largest_norm) {
  typename A::value_type;    // summed in place over ranks
  a.resize(n, largest_norm); // n zeros; largest_norm bounds one sample's contribution; throws invalid_argument
  { a.data() } -> std::same_as<typename A::value_type*>;
  { k.unit() } -> std::same_as<double>;
  { k.describe() } -> std::same_as<std::string>;
};

/// An accumulator that keeps more than the numbers it sends. seal() is called once a step for each range, after its
/// last contribution and before noise or reduction: from then on data() holds all of it. clear() forgets everything,
/// also what was not sealed yet: contributions that were dropped must not reappear in a later step.
template <class A>
concept SealedAccumulator = Accumulator<A> && requires(A a, isize first, isize count) {
  a.seal(first, count);
  a.clear();
};

/// An accumulator whose numbers are no better than gradients written out in row_type; others ask for exact ones.
template <class A>
concept TakesRows =
    Accumulator<A> && requires { typename A::row_type; } && std::same_as<typename A::row_type, typename A::value_type>;

/// A source whose samples may be written out before they are added to A.
template <class S, class A>
concept WritesRowsFor = TakesRows<A> && WritesRows<S, typename A::row_type>;

/// Whether sources of type S can be added: at element `at` of the accumulator, samples `range`, factors[0 .. count).
template <class A, class S>
concept AccumulatesFrom = requires(A a, isize at, const S source, samples range, const double* factors,
                                   workspace& scratch) { a.add(at, source, range, factors, scratch); };

} // namespace dpopt
