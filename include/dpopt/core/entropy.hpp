// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Where seeds and keys come from. A source fills all bytes or throws; nothing guessable takes its place, since noise
/// from a key that somebody guesses protects nobody.
#pragma once

#include "dpopt/core/error.hpp"
#include "dpopt/core/platform.hpp"

#include <algorithm>
#include <cerrno>
#include <concepts>
#include <cstddef>
#include <exception>
#include <random>
#include <span>
#include <system_error>

namespace dpopt {

/// Fills the bytes with unpredictable ones, or throws a std::exception whose text names the cause.
template <class S>
concept EntropySource = std::invocable<S&, std::span<std::byte>>;

/// The operating system's generator; where this library knows none, std::random_device. At most 256 bytes a call.
struct system_entropy {
  void operator()(std::span<std::byte> out) const {
    const int failure = system_random(out.data(), out.size());
    if (failure == 0) return;
    if (failure != ENOSYS) throw std::system_error(failure, std::generic_category(), "getentropy");
    std::random_device device; // throws where it has nothing to give
    for (std::byte& b : out) b = static_cast<std::byte>(device() & 0xffU);
  }
};

/// out is filled from the source. @param what is drawn, for the text.
/// @throw randomness_error naming the cause when the source fails, or leaves 16 bytes or more at zero.
template <EntropySource Source>
void draw_entropy(std::span<std::byte> out, Source&& source, const char* what) {
  std::ranges::fill(out, std::byte{0});
  try {
    source(out);
  } catch (const std::exception& cause) {
    std::ranges::fill(out, std::byte{0});
    throw randomness_error(message("no ", what, " could be drawn from the operating system: ", cause.what()));
  }
  const bool nothing = std::ranges::all_of(out, [](std::byte b) { return b == std::byte{0}; });
  if (nothing && out.size() >= 16) // by chance once in 2^128
    throw randomness_error(message("no ", what, " could be drawn from the operating system: all bytes are zero"));
}

} // namespace dpopt
