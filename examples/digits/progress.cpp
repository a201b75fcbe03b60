// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "progress.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cstdio>
#include <fstream>
#include <iostream>

#include <unistd.h>

namespace digits {
namespace {

/// Debian's interpreter first: that is where python3-tqdm puts its modules.
std::string command() {
  const std::string python = access("/usr/bin/python3", X_OK) == 0 ? "/usr/bin/python3" : "python3";
  return python + " " + quoted(DPOPT_EXAMPLE_SOURCE "/progress.py");
}

/// MPI launchers give a rank a pseudo-terminal as standard output wherever the output goes in the end, so only the
/// controlling terminal tells whether somebody watches.
bool somebody_watches() { return isatty(STDOUT_FILENO) == 1 && std::ofstream("/dev/tty").is_open(); }

} // namespace

progress::progress(const std::string& style, int epochs, int steps) : epochs_(epochs), steps_(steps) {
  const bool watched = somebody_watches();
  if (style == "bar" || (style == "auto" && watched)) {
    if (succeeds(command() + " --check")) {
      bar_.emplace("exec " + command() + (watched ? " >/dev/tty" : ""));
      bar_->write(nlohmann::json{{"total", steps}}.dump() + '\n');
      show(0);
    } else {
      std::cout << "no progress bar: it needs python3 and tqdm (Debian: apt-get install python3-tqdm)" << std::endl;
    }
  }
  lines_ = !bar_ && style != "none";
}

void progress::step(int done) {
  if (bar_) show(done);
}

void progress::epoch(int epoch, int done, const std::string& note) {
  note_ = note;
  epoch_ = std::min(epoch + 1, epochs_);
  if (bar_) show(done);
  if (!lines_) return;
  const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - start_;
  const double left = passed.count() / done * (steps_ - done);
  std::printf("epoch %3d/%d  %s  %.1f s left\n", epoch, epochs_, note.c_str(), left);
  std::fflush(stdout);
}

void progress::close() {
  if (bar_) bar_->close();
  bar_.reset();
}

void progress::show(int done) {
  const std::string epoch = "epoch " + std::to_string(epoch_) + "/" + std::to_string(epochs_);
  bar_->write(nlohmann::json{{"done", done}, {"epoch", epoch}, {"note", note_}}.dump() + '\n');
}

} // namespace digits
