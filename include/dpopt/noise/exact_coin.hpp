// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Coins whose probability is exactly n / d or exactly exp(-n / d), from uniform bits and integer arithmetic: Canonne,
/// Kamath and Steinke, "The discrete Gaussian for differential privacy" (2020), arXiv:2004.00010, algorithm 1.
///
/// No coin rounds its probability and none draws "a word modulo d": the bits are the digits of a real number that is
/// compared with n / d from the left, until a digit decides. One 16-bit digit nearly always does.
#pragma once

#include <concepts>
#include <cstdint>
#include <limits>
#include <random>

namespace dpopt {

/// A source of independent uniform 64-bit words; all 64 bits, which the 64-bit result of std::mt19937 does not have.
template <class S>
concept WordSource = std::uniform_random_bit_generator<S> && requires(S s) {
  { s() } -> std::same_as<std::uint64_t>;
} && S::min() == 0 && S::max() == std::numeric_limits<std::uint64_t>::max();

/// Cuts words into 16-bit digits, so that a cheap coin costs a quarter of a word. The order in which bits are used is
/// part of the definition of every stream that is built on it.
template <WordSource S>
class exact_coin {
public:
  static constexpr std::uint64_t largest_denominator = std::uint64_t{1}
                                                       << 47; ///< so that digit x d stays within 63 bits

  /// @param source must outlive this object.
  explicit exact_coin(S& source) : source_(source) {}

  /// 64 fresh bits.
  [[nodiscard]] std::uint64_t word() { return source_(); }

  /// True with probability n / d. 0 <= n <= d <= largest_denominator, d > 0. Certain results cost no bits.
  [[nodiscard]] bool bernoulli(std::uint64_t n, std::uint64_t d) {
    if (n == d) return true;
    while (n != 0) {
      // The uniform number u is known to lie in [digit, digit + 1) / 2^16: is all of it below n / d, or none?
      const std::uint64_t least = digit() * d;
      const std::uint64_t limit = n << 16;
      if (least + d <= limit) return true;
      if (least >= limit) return false;
      n = limit - least; // the digits that follow are compared with this rest over d
    }
    return false;
  }

  /// True with probability exp(-n / d). 0 <= n <= d <= largest_denominator, d > 0.
  /// The first k at which a coin of n / (d k) fails is odd with that probability; n / (d k) as two coins needs no
  /// product.
  [[nodiscard]] bool exp_minus(std::uint64_t n, std::uint64_t d) {
    std::uint64_t k = 1;
    while (bernoulli(n, d) && bernoulli(1, k)) ++k;
    return k % 2 == 1;
  }

  /// True with probability exp(-(n / d)^2 / 2), likewise: a coin of (n / d)^2 / (2 k) is three coins.
  [[nodiscard]] bool exp_minus_half_square(std::uint64_t n, std::uint64_t d) {
    std::uint64_t k = 1;
    while (bernoulli(n, d) && bernoulli(n, d) && bernoulli(1, 2 * k)) ++k;
    return k % 2 == 1;
  }

private:
  [[nodiscard]] std::uint64_t digit() {
    if (left_ == 0) {
      digits_ = source_();
      left_ = 4;
    }
    --left_;
    const std::uint64_t out = digits_ & 0xFFFFu;
    digits_ >>= 16;
    return out;
  }

  S& source_;
  std::uint64_t digits_ = 0;
  int left_ = 0;
};

} // namespace dpopt
