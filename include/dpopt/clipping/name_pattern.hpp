// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Patterns for parameter names, as a shell has them for files.
#pragma once

#include <cstddef>
#include <string_view>

namespace dpopt {

/// Whether the whole of `name` matches: * stands for any characters or none, ? for one, everything else for itself.
/// Time at most |name| x |pattern|: when the text stops matching, only the last * can take one character more.
[[nodiscard]] constexpr bool matches_pattern(std::string_view name, std::string_view pattern) noexcept {
  std::size_t n = 0, p = 0;
  std::size_t star = std::string_view::npos; // of the last *
  std::size_t taken = 0;                     // where the name goes on behind it
  while (n < name.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      taken = n;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == name[n])) {
      ++p;
      ++n;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      n = ++taken;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

static_assert(matches_pattern("fc1.weight", "fc?.w*t") && !matches_pattern("fc1.weight", "fc1"));

} // namespace dpopt
