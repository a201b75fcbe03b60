// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Text written to another program's standard input.
#pragma once

#include <csignal>
#include <cstdio>
#include <cstdlib>
#include <memory>
#include <string>
#include <string_view>

namespace digits {

/// A word that the shell takes literally.
inline std::string quoted(std::string_view word) {
  std::string out = "'";
  for (const char c : word) {
    if (c == '\'') out += "'\\''";
    else out += c;
  }
  return out + "'";
}

/// Whether the command, run without output, ends with success.
inline bool succeeds(const std::string& command) {
  return std::system(("{ " + command + "; } >/dev/null 2>&1").c_str()) == 0; // NOLINT: one thread runs at this time
}

/// A running command; waits for its end when destroyed or closed. One that ended early swallows what is written.
class pipe_to {
public:
  explicit pipe_to(const std::string& command) {
    std::signal(SIGPIPE, SIG_IGN); // a reader that ended early must not end the training
    process_.reset(popen(command.c_str(), "w"));
  }

  void write(std::string_view text) {
    if (!process_) return;
    std::fwrite(text.data(), 1, text.size(), process_.get());
    std::fflush(process_.get());
  }

  /// @return whether the command started and ended with success.
  bool close() { return process_ && pclose(process_.release()) == 0; }

private:
  struct closer {
    void operator()(std::FILE* f) const noexcept { pclose(f); }
  };
  std::unique_ptr<std::FILE, closer> process_;
};

} // namespace digits
