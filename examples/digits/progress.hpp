// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// How far the training is: a bar on a terminal, drawn by tqdm in a process of its own, or a line an epoch.
#pragma once

#include "pipe.hpp"

#include <chrono>
#include <optional>
#include <string>

namespace digits {

class progress {
public:
  /// @param style auto, bar, lines or none. A bar that cannot be drawn becomes lines, with a word on why when asked
  /// for.
  progress(const std::string& style, int epochs, int steps);

  /// After each step; `done` counts from 1.
  void step(int done);

  /// After each epoch. @param note accuracy and epsilon, as they are to be shown.
  void epoch(int epoch, int done, const std::string& note);

  /// Whether a bar is drawn, so that space is short.
  [[nodiscard]] bool is_bar() const noexcept { return bar_.has_value(); }

  /// Ends the bar's line, so that others may print.
  void close();

private:
  void show(int done);

  std::optional<pipe_to> bar_;
  bool lines_ = false;
  int epochs_;
  int steps_;
  int epoch_ = 1; ///< being trained
  std::string note_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

} // namespace digits
