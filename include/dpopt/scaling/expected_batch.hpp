// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Division by the expected batch size, as Opacus does it, with "per rank or in all?" answered by a type.
#pragma once

#include "dpopt/core/error.hpp"
#include "dpopt/scaling/scaling.hpp"

#include <cmath>

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
  batch_size(double samples_per_rank) : samples_(samples_per_rank), given_(true) {}           // NOLINT: Opacus' meaning
  batch_size(per_rank s) : samples_(s.samples), given_(true) {}                               // NOLINT
  batch_size(across_ranks s) : samples_(s.samples), given_(true), all_ranks_(true) {}         // NOLINT

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

/// mean: divisor = expected size x ranks x accumulated iterations; sum: 1. The actual number of samples never counts.
struct expected_batch {
  using role = roles::scaling;
  batch_size expected_batch_size = {};
  dpopt::loss_reduction loss_reduction = dpopt::loss_reduction::mean;

  void validate() const {
    const bool mean = loss_reduction == dpopt::loss_reduction::mean;
    if (!expected_batch_size.given()) {
      if (mean)
        throw invalid_argument("expected_batch_size: not given, but loss_reduction is mean; give per_rank(samples) or "
                               "across_ranks(samples), or use loss_reduction::sum");
      return;
    }
    const double b = expected_batch_size.value();
    if (!(std::isfinite(b) && b > 0))
      throw invalid_argument(message("expected_batch_size: ", b, " is not a finite number above 0"));
  }
  [[nodiscard]] double divisor(isize iterations, int ranks) const noexcept {
    return loss_reduction == dpopt::loss_reduction::sum
               ? 1
               : expected_batch_size.over(ranks) * static_cast<double>(iterations);
  }
  [[nodiscard]] std::string describe() const {
    return message("expected_batch(", expected_batch_size.describe(), ", ",
                   loss_reduction == dpopt::loss_reduction::sum ? "sum" : "mean", ")");
  }
};

static_assert(Scaling<expected_batch>);

} // namespace dpopt
