// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Everything that a run tells: progress, the JSON-lines log, the table at the end, the plots. Made on one rank.
///
/// Only released or public figures come in, but for those named private_, which come in when the user asked for them.
#pragma once

#include "options.hpp"
#include "plot.hpp"
#include "progress.hpp"

#include <fstream>
#include <optional>
#include <string>
#include <vector>

namespace digits {

/// Known before the first step.
struct run_facts {
  int ranks = 1;
  std::ptrdiff_t train_images = 0;
  std::ptrdiff_t held_out_images = 0;
  std::ptrdiff_t parameters = 0;
  double noise_multiplier = 0;
  bool reproducible = false; ///< the user knows the seed: not a private release
};

/// Functions of the training data that no epsilon covers.
struct private_figures {
  double loss = 0;          ///< mean over the samples of the epoch
  double clip_fraction = 0; ///< of (sample, layer) pairs
  double batch = 0;         ///< mean size of the epoch's batches
};

struct epoch_result {
  int epoch = 0;
  double accuracy = 0; ///< 0..1, on held-out images
  double epsilon = 0;  ///< spent so far; infinity without privacy
  std::optional<private_figures> private_ = {};
};

class report {
public:
  /// Makes the output folder. @throw dpopt::invalid_argument naming the file that cannot be written.
  report(const options& chosen, const run_facts& facts);

  void step(int done) { progress_.step(done); }
  void epoch(const epoch_result& result);

  /// After the last epoch: table, plots, last line of the log.
  void finish();

private:
  [[nodiscard]] std::string title() const;
  void print_table(double seconds, const std::string& plot_problem) const;

  options options_;
  run_facts facts_;
  std::ofstream log_, json_;
  std::vector<plot_point> history_;
  progress progress_;
  std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

} // namespace digits
