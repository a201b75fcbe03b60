// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The strategies of correlated noise: a lower triangular C with a way to compute a row of C^-1 z at a time.
///
/// RegeneratingStrategy: the row is a short sum of fresh numbers of this and earlier rows, which an addressable base
/// draws again when they are needed; nothing of the model's size is kept. Satisfied by banded_inverse and tree.
/// StoringStrategy: vectors of the model's size are kept. Satisfied by banded, blt, honaker_tree
/// and stored_banded_inverse.
///
/// Sensitivity contract: sensitivity(plan) bounds the L2 distance of C g for all g that differ in one record of norm 1
/// a release, in any releases that the plan allows. It belongs to C, never to its inverse.
#pragma once

#include "dpopt/core/types.hpp"
#include "dpopt/noise/run_plan.hpp"

#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace dpopt {

/// weight x the base's numbers at `step`.
struct stream_term {
  std::uint64_t step = 0;
  double weight = 0;
};

/// weight x the numbers of a vector that the strategy keeps.
struct stored_term {
  isize vector = 0;
  double weight = 0;
};

template <class S>
concept NoiseStrategy = std::copyable<S> && requires(S s, const S k, const run_plan& plan, std::uint64_t step,
                                                     void (*visit)(std::span<std::byte>)) {
  s.validate(plan);                                // once, first; throws invalid_argument
  { k.sensitivity(plan) } -> std::same_as<double>; // of C
  s.start_row(step);                               // the next row, whose fresh numbers are the base's at `step`
  { k.row_norm() } -> std::same_as<double>;        // of this row of C^-1
  s.visit_state(visit);                            // what the next rows depend on
  { k.describe() } -> std::same_as<std::string>;   // compared between ranks
};

template <class S>
concept RegeneratingStrategy = NoiseStrategy<S> && requires(const S k) {
  { k.terms() } -> std::same_as<std::span<const stream_term>>; // of the row
};

template <class S>
concept StoringStrategy =
    NoiseStrategy<S> && std::floating_point<typename S::state_type> &&
    requires(S s, const S k, isize n, typename S::state_type* fresh) {
      s.bind(n);              // numbers in a row; the past is zero
      s.advance(n, fresh, n); // a stretch (first, its fresh numbers, count) of the row; each number once a row
      { k.terms() } -> std::same_as<std::span<const stored_term>>; // of the row
      { k.vector(n) } -> std::same_as<const typename S::state_type*>;
    };

/// Whether noise for numbers of type V can come from S: what is stored must be at least as fine as V, since bits of the
/// sum below the last bit of its noise would be released as they are.
template <class S, class V>
concept NumbersFor = RegeneratingStrategy<S> || (StoringStrategy<S> && sizeof(typename S::state_type) >= sizeof(V));

} // namespace dpopt
