// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Expected batch sizes, with "per rank or in all?" answered by a type. The expected size is public; the actual one is
/// private under Poisson sampling and divides nothing.
#pragma once

#include "dpopt/core/error.hpp"

#include <string>

namespace dpopt {

/// Expected number of samples that ONE rank contributes to one logical batch.
struct per_rank {
  double samples;
};
/// Expected number of samples of one logical batch over ALL ranks, i.e. sampling rate x data set size.
struct across_ranks {
  double samples;
};

/// An expected batch size in either form; not given when default constructed. A bare number is per rank, as in Opacus.
/// It need not be whole: with rate q and N records it is q N (62.5 stays 62.5).
class batch_size {
public:
  batch_size() = default;
  batch_size(double samples_per_rank) : samples_(samples_per_rank), given_(true) {}   // NOLINT: Opacus' meaning
  batch_size(per_rank s) : samples_(s.samples), given_(true) {}                       // NOLINT
  batch_size(across_ranks s) : samples_(s.samples), given_(true), all_ranks_(true) {} // NOLINT

  [[nodiscard]] bool given() const noexcept { return given_; }
  [[nodiscard]] double value() const noexcept { return samples_; }
  [[nodiscard]] double over(int ranks) const noexcept { return all_ranks_ ? samples_ : samples_ * ranks; }
  [[nodiscard]] std::string describe() const {
    return given_ ? message(all_ranks_ ? "across_ranks(" : "per_rank(", samples_, ")") : "not given";
  }

private:
  double samples_ = 0;
  bool given_ = false;
  bool all_ranks_ = false;
};

} // namespace dpopt
