// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// A table in a kernel's arguments: it needs no memory on the device and no copy, the host may forget it as soon as the
/// launch returns, and a captured launch keeps it.
#pragma once

#include "dpopt/core/error.hpp"
#include "dpopt/core/platform.hpp"
#include "dpopt/core/types.hpp"

#include <cstddef>
#include <type_traits>

namespace dpopt::cuda {

/// What the arguments of a kernel may take on every device and with every toolkit, and how much of it is left for those
/// beside the table.
inline constexpr std::size_t argument_bytes = 4096;
inline constexpr std::size_t other_argument_bytes = 128;

/// Up to `capacity` entries, copied into the launch.
template <class Entry>
class argument_table {
  static_assert(std::is_trivially_copyable_v<Entry> && alignof(Entry) <= 16, "arguments are copied byte by byte");

public:
  static constexpr isize capacity =
      static_cast<isize>((argument_bytes - other_argument_bytes - 16) / sizeof(Entry)); // 16: the count, aligned

  [[nodiscard]] DPOPT_DEVICE isize size() const noexcept { return count_; }
  [[nodiscard]] DPOPT_DEVICE const Entry& operator[](isize i) const noexcept { return slots_[i].entry; }
  [[nodiscard]] bool full() const noexcept { return count_ == capacity; }

  /// @throw state_error when the table is full.
  void add(const Entry& entry) {
    if (full()) throw state_error("argument_table: more entries than a launch can take; launch what is in it first");
    slots_[count_++].entry = entry;
  }

private:
  union slot { // is no entry before it is given one: the table need not be filled to be launched
    slot() noexcept {}
    Entry entry;
  };
  isize count_ = 0;
  slot slots_[static_cast<std::size_t>(capacity)];

  static_assert(capacity > 0);
};

} // namespace dpopt::cuda
