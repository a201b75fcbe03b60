// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Division by the expected batch size, as Opacus does it, with "per rank or in all?" answered by a type.
#pragma once

#include "dpopt/core/batch_size.hpp"
#include "dpopt/core/error.hpp"
#include "dpopt/scaling/scaling.hpp"

#include <cmath>

namespace dpopt {

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
