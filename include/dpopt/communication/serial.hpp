// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The communicator of a single process: rank 0 of 1. A sum over one rank is the number itself, so nothing is done;
/// the arguments are checked all the same, so that a wrong call does not wait for the first run on two ranks.
#pragma once

#include "dpopt/communication/communicator.hpp"
#include "dpopt/communication/wire.hpp"

#include <span>

namespace dpopt {

/// The default communicator.
class serial {
public:
  using role = roles::communicator;

  /// Always complete.
  struct request {};

  [[nodiscard]] int rank() const noexcept { return 0; }
  [[nodiscard]] int size() const noexcept { return 1; }

  /// Leaves the n numbers as they are.
  /// @throw invalid_argument If n is negative, or values is null and n is not 0.
  template <WireNumber T>
  [[nodiscard]] request start_sum(T* values, isize n) {
    check_sum(values, n);
    return {};
  }

  /// Leaves the numbers as they are: the one part is the sum.
  /// @throw invalid_argument Unless there is one count, 0 or more, and values is null only for 0.
  template <WireNumber T>
  [[nodiscard]] request start_reduce_scatter(T* values, std::span<const isize> counts) {
    check_parts(values, counts, size());
    return {};
  }
  /// As start_reduce_scatter.
  template <WireNumber T>
  [[nodiscard]] request start_all_gather(T* values, std::span<const isize> counts) {
    check_parts(values, counts, size());
    return {};
  }

  void wait(request&) noexcept {}

  /// Leaves the n bytes as they are.
  /// @throw invalid_argument If n is negative, bytes is null and n is not 0, or root is not 0.
  void broadcast(std::byte* bytes, isize n, int root) { check_broadcast(bytes, n, root, size()); }
};

static_assert(Scatters<serial, float> && Scatters<serial, double>);
static_assert(Scatters<serial, std::int64_t> && Scatters<serial, std::uint64_t>);

} // namespace dpopt
