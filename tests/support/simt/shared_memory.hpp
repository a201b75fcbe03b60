// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Shared memory of a block, with every index checked, and the alignment that vector loads need.
#pragma once

#include "support/simt/blocks.hpp"

#include <cstddef>
#include <cstdint>

namespace simt {

/// What DPOPT_SHARED declares: used like T[N].
template <class T, std::size_t N>
struct shared_array {
  T values[N];

  /// Stops the kernel on an index that is not in [0, N).
  T& operator[](std::ptrdiff_t i) {
    if (i < 0 || i >= static_cast<std::ptrdiff_t>(N)) give_up("index outside of a shared array", place::current());
    return values[i];
  }
  operator T*() { return values; } // NOLINT: an array decays
};

namespace detail {
DPOPT_SIMT_UNSEEN inline void* shared_at(const void* key, std::size_t bytes) {
  grid_state& g = *running;
  for (unsigned i = 0; i < g.shared_arrays; ++i)
    if (g.shared[i].key == key) return g.shared[i].at;
  if (g.shared_arrays == std::size(g.shared) || g.shared_used + bytes > cfg.max_shared)
    give_up("more shared memory than a block has (48 KiB, 64 arrays)", place());
  char* const p = g.arena + g.shared_used + gap * (g.shared_arrays + 1);
  const std::size_t used = (bytes + gap - 1) / gap * gap;
  g.shared_used += used;
  sanitizer::allow(p, used + gap);
  fill_shared(p, used + gap); // the gap in front is there already
  sanitizer::forbid(p + bytes, used + gap - bytes);
  g.shared[g.shared_arrays++] = {key, p, bytes};
  return p;
}
} // namespace detail

/// The block's array of N elements that belongs to the type of `tag`: a lambda's, so one for each place that asks.
template <class T, std::size_t N, class Tag>
shared_array<T, N>& shared(Tag) {
  static_assert(std::is_trivially_copyable_v<T>, "shared memory is not constructed");
  static const char key = 0;
  return *static_cast<shared_array<T, N>*>(detail::shared_at(&key, sizeof(shared_array<T, N>)));
}

/// Stops the kernel when p cannot be loaded or stored as one vector of `bytes`.
inline void require_aligned(const void* p, std::size_t bytes, place where = place::current()) {
  if (reinterpret_cast<std::uintptr_t>(p) % bytes != 0) give_up("a vector load or store that is not aligned", where);
}

} // namespace simt
