// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// A sum of positive numbers given by their logarithms, none of which need be representable, and what its logarithm
/// may be off by.
#pragma once

#include <cmath>
#include <limits>

namespace dpopt::detail {

/// log(sum exp(v)), one term at a time.
class log_sum {
public:
  /// Adds exp(v); v may be -infinity. `size` is the largest number that was subtracted to get v: its rounding is v's.
  void add(double v, double size) {
    if (v == -std::numeric_limits<double>::infinity()) return;
    ++terms_;
    if (v <= top_) {
      scaled_ += std::exp(v - top_);
      return;
    }
    scaled_ = scaled_ * std::exp(top_ - v) + 1; // exp(-infinity) is 0 for the first term
    top_ = v;
    size_ = size;
  }

  /// Logarithm of the sum; -infinity when nothing was added.
  [[nodiscard]] double value() const { return top_ + std::log(scaled_); }

  /// The same, rounded up by a generous multiple of what rounding can have taken away.
  [[nodiscard]] double upper_value() const {
    return value() + std::numeric_limits<double>::epsilon() * (64 + 8 * size_ + terms_);
  }

private:
  double top_ = -std::numeric_limits<double>::infinity();
  double scaled_ = 0;
  double size_ = 0; // of the largest term, which decides the sum
  double terms_ = 0;
};

/// log(exp(x) - 1) for x >= 0 without overflow, and without cancellation near 0.
inline double log_expm1(double x) { return x < 1 ? std::log(std::expm1(x)) : x + std::log1p(-std::exp(-x)); }

/// log(1 + exp(x)) without overflow, and to full relative precision when it is tiny.
inline double log1p_exp(double x) { return x <= 0 ? std::log1p(std::exp(x)) : x + std::log1p(std::exp(-x)); }

} // namespace dpopt::detail
