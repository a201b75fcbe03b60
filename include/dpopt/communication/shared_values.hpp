// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The root's list for all ranks, whatever lengths theirs have.
#pragma once

#include "dpopt/communication/communicator.hpp"
#include "dpopt/communication/failure.hpp"
#include "dpopt/core/types.hpp"

#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <vector>

namespace dpopt {

/// Every rank's `values` becomes the root's. COLLECTIVE. @throw std::bad_alloc (one rank) or rank_error on all ranks
/// when one has no room for it.
template <Communicator C, class V>
  requires std::is_trivially_copyable_v<V>
void share_values(C& communicator, std::vector<V>& values) {
  auto count = static_cast<std::uint64_t>(values.size());
  communicator.broadcast(reinterpret_cast<std::byte*>(&count), sizeof count, 0);
  failure no_room;
  no_room.record([&] { values.resize(static_cast<std::size_t>(count)); });
  no_room.raise_together(communicator);
  communicator.broadcast(reinterpret_cast<std::byte*>(values.data()), static_cast<isize>(values.size() * sizeof(V)), 0);
}

} // namespace dpopt
