// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The one exception hierarchy. Catch dpopt::error to catch everything the library throws on purpose; a message
/// names the parameter, the value it had and what to do. No message ever holds a seed, a key or private data.
#pragma once

#include <charconv>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>

namespace dpopt {

/// Base of every exception of the library.
class error : public std::runtime_error {
public:
  using std::runtime_error::runtime_error;
};

/// An option, shape, size or name is wrong. Raised at construction or, agreed by all ranks, at step().
class invalid_argument : public error {
public:
  using error::error;
};

/// A call came in the wrong order (step() without data, second gradient for a parameter, ...).
class state_error : public error {
public:
  using error::error;
};

/// Some rank failed: every rank of the communicator throws this, naming the rank and the cause.
class rank_error : public error {
public:
  rank_error(int failed, const std::string& what_happened) : error(what_happened), rank_(failed) {}
  /// Lowest rank that reported a failure.
  [[nodiscard]] int rank() const noexcept { return rank_; }

private:
  int rank_;
};

/// The communicator itself failed (a rank left, MPI returned an error code).
class communication_error : public error {
public:
  using error::error;
};

/// No entropy, or the random stream is exhausted: continuing would repeat noise.
class randomness_error : public error {
public:
  using error::error;
};

namespace detail {
/// Numbers as short as they can be without losing a bit, so that a message shows the value that was given.
template <class Part>
void append_part(std::string& out, const Part& part) {
  if constexpr (std::is_convertible_v<const Part&, std::string_view>) {
    out += std::string_view(part);
  } else if constexpr (std::is_same_v<Part, bool>) {
    out += part ? "true" : "false";
  } else {
    char digits[64];
    out.append(digits, std::to_chars(digits, digits + sizeof digits, part).ptr);
  }
}
} // namespace detail

/// Builds a message from texts, numbers and truth values.
template <class... Parts>
[[nodiscard]] std::string message(const Parts&... parts) {
  std::string out;
  (detail::append_part(out, parts), ...);
  return out;
}

} // namespace dpopt
