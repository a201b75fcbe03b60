// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The Communicator role: sums over ranks. Satisfied by serial, threads, mpi (dpopt::mpi).
///
/// Contract: every rank posts the same sequence of collectives with the same lengths; a sum leaves the same bits on
/// every rank; buffers stay alive and untouched between start_sum and wait. A failed rank never leaves the others
/// waiting for ever where the transport can tell.
#pragma once

#include "dpopt/core/types.hpp"

#include <concepts>
#include <cstddef>
#include <span>

namespace dpopt {

/// Rank, size and the broadcast of raw bytes from a root (used for secrets, fingerprints, error texts).
template <class C>
concept Communicator = std::movable<C> && requires(C c, const C k, std::byte* bytes, isize n, int root) {
  typename C::request; // default constructible, movable; a default constructed one is complete
  { k.rank() } -> std::same_as<int>;
  { k.size() } -> std::same_as<int>;
  c.broadcast(bytes, n, root); // blocking, collective
};

/// Sums n numbers of type T over all ranks, in place, without blocking: start_sum then wait.
template <class C, class T>
concept Reduces = Communicator<C> && requires(C c, T* values, isize n, typename C::request& r) {
  { c.start_sum(values, n) } -> std::same_as<typename C::request>; // collective; order of calls alike on all ranks
  c.wait(r);                                                       // returns when values hold the sum
};

/// Sums of which each rank gets a part, and parts put together: what placement `sharded` needs. Optional.
///
/// counts[r] is the length of rank r's part; parts lie one after the other in rank order, may be empty, and are the
/// same on all ranks. `values` holds all parts; it and the counts stay alive and untouched until wait.
template <class C, class T>
concept Scatters = Reduces<C, T> && requires(C c, T* values, std::span<const isize> counts) {
  // After wait this rank's own part holds the sum over ranks; what the other parts hold is unspecified.
  { c.start_reduce_scatter(values, counts) } -> std::same_as<typename C::request>;
  // After wait every part holds what its rank had in it.
  { c.start_all_gather(values, counts) } -> std::same_as<typename C::request>;
};

} // namespace dpopt
