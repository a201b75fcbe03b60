// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// An EntropySource that always fails.
#pragma once

#include <cstddef>
#include <span>
#include <stdexcept>

namespace dpopt::test {

struct no_entropy {
  static constexpr const char* cause = "no entropy here";
  void operator()(std::span<std::byte>) const { throw std::runtime_error(cause); }
};

} // namespace dpopt::test
