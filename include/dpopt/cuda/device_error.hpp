// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The error of a device call, and what such a call says about itself: its name and the line that made it.
#pragma once

#include "dpopt/core/error.hpp"

#include <cstdint>
#include <source_location>
#include <string>
#include <string_view>

namespace dpopt::cuda {

/// A call of the CUDA runtime or of one of its libraries failed. The text names the call, the file and line, the stream
/// and CUDA's own words. After a fault inside a kernel every further call fails too: the process must end.
class device_error : public error {
public:
  using error::error;
};

/// Name of a call or kernel and the place that asked for it; made from the name alone.
struct call_site {
  const char* name;
  std::source_location where;

  constexpr call_site(const char* name_of_call,
                      std::source_location asked_at = std::source_location::current()) noexcept // implicit by intent
      : name(name_of_call), where(asked_at) {}

  /// The file without its folders, which say more about the machine than about the error.
  [[nodiscard]] std::string_view file() const noexcept {
    const std::string_view path = where.file_name();
    const auto slash = path.find_last_of('/');
    return slash == std::string_view::npos ? path : path.substr(slash + 1);
  }
};

/// Throws what a failed call has to say. @param stream its number, for people who compare it with a profiler's.
[[noreturn]] inline void throw_device_error(call_site call, std::uintptr_t stream, std::string_view reason, int code) {
  throw device_error(message("device call ", call.name, " (", call.file(), ":", call.where.line(), ", stream ", stream,
                             ") failed: ", reason, " (code ", code, ")"));
}

} // namespace dpopt::cuda
