// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The Accumulator role: where clipped contributions are summed, and the type that crosses the wire. The accumulator
/// calls the source, so it may ask for what it needs. Satisfied by running_sum<float>, running_sum<double>, integer_grid.
///
/// Privacy contract: what a sample adds has at most the norm that its factor allows; converting to value_type never
/// makes it larger. One unit of value_type stands for unit() in gradient units.
#pragma once

#include "dpopt/core/types.hpp"
#include "dpopt/core/workspace.hpp"

#include <concepts>
#include <string>

namespace dpopt {

template <class A>
concept Accumulator = std::movable<A> && requires(A a, const A k, isize n, double largest_norm) {
  typename A::value_type;        // summed in place over ranks
  a.resize(n, largest_norm);     // n zeros; largest_norm bounds one sample's contribution; throws invalid_argument
  { a.data() } -> std::same_as<typename A::value_type*>;
  { k.unit() } -> std::same_as<double>;
  { k.describe() } -> std::same_as<std::string>;
};

/// Whether sources of type S can be added: at element `at` of the accumulator, samples `range`, factors[0 .. count).
template <class A, class S>
concept AccumulatesFrom =
    requires(A a, isize at, const S source, samples range, const double* factors, workspace& scratch) {
      a.add(at, source, range, factors, scratch);
    };

} // namespace dpopt
