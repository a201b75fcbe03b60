// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// What may travel between ranks, and the checks that every communicator makes before it sends anything.
#pragma once

#include "dpopt/core/error.hpp"
#include "dpopt/core/types.hpp"

#include <concepts>
#include <cstdint>
#include <string>
#include <string_view>

namespace dpopt {

/// The number types every communicator sums. One closed list, so that a composition which compiles for one rank also
/// compiles for threads and MPI.
template <class T>
concept WireNumber = std::same_as<T, float> || std::same_as<T, double> || std::same_as<T, std::int64_t> ||
                     std::same_as<T, std::uint64_t>;

/// Name of a number type in messages.
template <WireNumber T>
[[nodiscard]] constexpr std::string_view wire_name() noexcept {
  if constexpr (std::same_as<T, float>) return "float";
  else if constexpr (std::same_as<T, double>) return "double";
  else if constexpr (std::same_as<T, std::int64_t>) return "int64";
  else return "uint64";
}

/// What is wrong with a buffer of n numbers; empty when nothing is. A null buffer is fine when n is 0.
[[nodiscard]] inline std::string buffer_problem(const void* values, isize n) {
  if (n < 0) return message("communicator: the length of a buffer is ", n, "; give 0 or more");
  if (values == nullptr && n > 0) return message("communicator: a buffer of ", n, " numbers is null");
  return {};
}

/// What is wrong with the root of a broadcast; empty when nothing is.
[[nodiscard]] inline std::string root_problem(int root, int size) {
  if (root >= 0 && root < size) return {};
  return message("communicator: the root of a broadcast is ", root, "; give a rank from 0 to ", size - 1);
}

/// @throw invalid_argument If a sum cannot be started with these arguments.
inline void check_sum(const void* values, isize n) {
  if (const std::string wrong = buffer_problem(values, n); !wrong.empty()) throw invalid_argument(wrong);
}

/// @throw invalid_argument If a broadcast cannot be made with these arguments.
inline void check_broadcast(const void* bytes, isize n, int root, int size) {
  check_sum(bytes, n);
  if (const std::string wrong = root_problem(root, size); !wrong.empty()) throw invalid_argument(wrong);
}

} // namespace dpopt
