// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// What may travel between ranks, and the checks that every communicator makes before it sends anything.
#pragma once

#include "dpopt/core/error.hpp"
#include "dpopt/core/types.hpp"

#include <concepts>
#include <cstdint>
#include <limits>
#include <span>
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

/// What is wrong with the lengths of the ranks' parts; empty when nothing is.
[[nodiscard]] inline std::string parts_problem(const void* values, std::span<const isize> counts, int size) {
  if (std::ssize(counts) != size)
    return message("communicator: ", counts.size(), " parts were given for ", size, " ranks; give one length a rank");
  isize total = 0;
  for (const isize n : counts) {
    if (n < 0) return message("communicator: the length of a part is ", n, "; give 0 or more");
    if (n > std::numeric_limits<isize>::max() - total) return "communicator: the parts add up to more than any memory";
    total += n;
  }
  return buffer_problem(values, total);
}

/// @throw invalid_argument If parts of these lengths cannot be scattered or gathered.
inline void check_parts(const void* values, std::span<const isize> counts, int size) {
  if (const std::string wrong = parts_problem(values, counts, size); !wrong.empty()) throw invalid_argument(wrong);
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
