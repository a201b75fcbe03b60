// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Two optimizers on one parameter would each add its samples' contributions at the noise of one. So a parameter
/// belongs to at most one live optimizer, and letting go is automatic.
#pragma once

#include "dpopt/core/error.hpp"
#include "dpopt/core/types.hpp"

#include <cstddef>
#include <functional>
#include <map>
#include <mutex>
#include <string>
#include <string_view>

namespace dpopt {

/// RAII claim on address ranges. Thread safe; process wide, since a raw pointer has no other identity.
class ownership {
public:
  ownership() = default;
  ownership(const ownership&) = delete;
  ownership& operator=(const ownership&) = delete;
  ~ownership() { release(); }

  /// Claims [first, first + bytes). Empty ranges are never claimed.
  /// @throw invalid_argument if it overlaps a range of a live claim, this one included (a tied parameter listed twice);
  ///   nothing is claimed then.
  void claim(std::string_view name, const void* first, std::size_t bytes) {
    if (bytes == 0) return;
    const auto* begin = static_cast<const std::byte*>(first);
    const std::lock_guard lock(registry().mutex);
    auto& ranges = registry().ranges;
    auto next = ranges.lower_bound(begin);
    const bool overlaps = (next != ranges.end() && less(next->first, begin + bytes)) ||
                          (next != ranges.begin() && less(begin, std::prev(next)->second.end));
    if (overlaps)
      throw invalid_argument(message("parameter '", name,
                                     "' already belongs to a live optimizer or is listed twice; destroy the other "
                                     "optimizer first, or list a tied parameter once"));
    ranges.emplace(begin, range{begin + bytes, this});
  }

  /// Lets go of everything claimed.
  void release() noexcept {
    const std::lock_guard lock(registry().mutex);
    std::erase_if(registry().ranges, [this](const auto& r) { return r.second.owner == this; });
  }

private:
  struct range {
    const std::byte* end;
    const ownership* owner;
  };
  struct shared_registry {
    std::mutex mutex;
    std::map<const std::byte*, range, std::less<>> ranges; // std::less orders pointers of unrelated objects
  };
  static bool less(const std::byte* a, const std::byte* b) noexcept { return std::less<>{}(a, b); }
  static shared_registry& registry() {
    static shared_registry r;
    return r;
  }
};

} // namespace dpopt
