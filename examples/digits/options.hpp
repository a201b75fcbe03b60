// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// What the user may choose. The defaults are the same for every target epsilon. They were chosen once, by accuracy on
/// other splits of the same images than the one that this program holds out; as usual, no epsilon counts that choice.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace digits {

struct options {
  std::string data = DPOPT_EXAMPLE_DATA "/digits.csv.gz";
  std::string output = "digits-output"; ///< folder of the log and the plots; empty for none
  std::string json;                     ///< file for the last line of the log; empty for none
  std::string progress = "auto";        ///< auto, bar, lines or none
  bool quiet = false;
  bool show_private = false;

  double target_epsilon = 8;
  double delta = 1e-4;
  bool no_privacy = false;
  std::string noise = "counter";     ///< counter, secure or hardened
  std::optional<std::uint64_t> seed; ///< of noise and sampling; absent: secret. Of counter noise alone

  int epochs = 50;
  double rate = 0.25; ///< probability of each image to be in a step
  double learning_rate = 0.03;
  std::vector<double> bounds{1.0, 0.5};
  int hidden = 64;
  std::uint64_t init_seed = 1;
  bool materialized = false;

  /// Noise and sampling from a cipher.
  [[nodiscard]] bool secure_mode() const noexcept { return noise != "counter"; }
  /// Exact discrete noise on the integer grid.
  [[nodiscard]] bool hardened() const noexcept { return noise == "hardened"; }
  /// A pass over the data in expectation.
  [[nodiscard]] int steps_per_epoch() const noexcept;
  [[nodiscard]] int steps() const noexcept { return epochs * steps_per_epoch(); }
};

/// Reads the command line into `chosen`.
/// @param speak whether this rank prints help and errors, which name the option.
/// @return nothing when training may go on, else the exit code: 0 after --help.
[[nodiscard]] std::optional<int> read_options(int argc, char** argv, bool speak, options& chosen);

} // namespace digits
