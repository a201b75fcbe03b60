// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// What a child made by ::fork() is told.
#pragma once

#include "dpopt/core/error.hpp"
#include "support/catch.hpp"

#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstddef>
#include <string>

namespace dpopt::test {

/// Text of the state_error that f throws in a child process; empty if nothing.
template <class F>
std::string thrown_in_a_child(F f) {
  std::array<int, 2> pipe_ends{};
  REQUIRE(::pipe(pipe_ends.data()) == 0);
  const pid_t child = ::fork();
  REQUIRE(child >= 0);
  if (child == 0) {
    std::string text;
    try {
      f();
    } catch (const dpopt::state_error& e) {
      text = e.what();
    }
    const auto written = ::write(pipe_ends[1], text.data(), text.size());
    _exit(written == static_cast<ssize_t>(text.size()) ? 0 : 1);
  }
  ::close(pipe_ends[1]);
  std::string text(1000, ' ');
  const auto got = ::read(pipe_ends[0], text.data(), text.size());
  ::close(pipe_ends[0]);
  int status = 1;
  ::waitpid(child, &status, 0);
  CHECK(status == 0);
  return text.substr(0, static_cast<std::size_t>(std::max<ssize_t>(got, 0)));
}

} // namespace dpopt::test
