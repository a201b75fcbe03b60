// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Gaussian noise from the user's own UniformRandomBitGenerator (std::mt19937_64, a hardware source, a test's counter).
///
/// When to use: the trainer must control every random bit, on one rank or with root_before_reduction. When not: where
/// several ranks draw, since a sequential generator cannot give two of them the same number, nor different ones on
/// purpose; such placements need an addressable mechanism and do not compile with this one.
///
/// Not std::normal_distribution: its stream differs between standard libraries. The numbers here depend on the
/// generator's output and the order of calls alone, not on how a range is split into calls or on its addresses.
#pragma once

#include "dpopt/core/platform.hpp"
#include "dpopt/core/types.hpp"
#include "dpopt/noise/box_muller.hpp"
#include "dpopt/noise/multiplier.hpp"
#include "dpopt/noise/noise_mechanism.hpp"

#include <array>
#include <bit>
#include <concepts>
#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <utility>

namespace dpopt {

namespace detail {

/// 64 uniform bits from any generator, in the order of its outputs. An output beyond the largest power of two that fits
/// the generator's range is drawn again, so that the bits are exactly uniform.
template <std::uniform_random_bit_generator URBG>
std::uint64_t uniform_bits(URBG& generator) {
  constexpr std::uint64_t range = URBG::max() - URBG::min(); // number of outputs - 1
  constexpr bool whole = range == std::numeric_limits<std::uint64_t>::max();
  constexpr int bits = whole ? 64 : std::bit_width(range + 1) - 1;
  constexpr std::uint64_t mask = whole ? range : (std::uint64_t{1} << bits) - 1;
  std::uint64_t word = 0;
  for (int have = 0; have < 64; have += bits) {
    std::uint64_t draw = mask;
    do draw = static_cast<std::uint64_t>(generator() - URBG::min());
    while (draw > mask);
    word = whole ? draw : (word << (bits % 64)) | draw;
  }
  return word;
}

} // namespace detail

/// NoiseMechanism; not addressable, shares no secret. Holds its generator by value: pass a copy or move it in.
template <std::uniform_random_bit_generator URBG>
class sequential_gaussian {
public:
  using role = roles::noise;
  static constexpr bool addressable = false;

  /// @param noise_multiplier Std of the noise over the sensitivity. @param generator The only source of randomness.
  sequential_gaussian(double noise_multiplier, URBG generator)
      : noise_multiplier_(noise_multiplier), generator_(std::move(generator)) {}

  [[nodiscard]] double multiplier() const noexcept { return noise_multiplier_; }

  /// For describe() of the optimizer and comparison between ranks; holds no secret.
  [[nodiscard]] std::string describe() const { return "sequential_gaussian"; }

  /// @throw invalid_argument If the multiplier is negative or not finite.
  void validate() const { require_multiplier(noise_multiplier_); }

  /// True: nobody but the user knows whether the generator can be predicted, so no release is called private.
  [[nodiscard]] static constexpr bool reproducible() noexcept { return true; }

  /// x[i] += N(0, std_in_units^2) for i < count, from the next numbers of the generator, rounded to V. Local.
  template <std::floating_point V>
  DPOPT_NO_CONTRACT void add(const address& /*where*/, double std_in_units, V* x, isize count) {
    DPOPT_NO_CONTRACT_BLOCK
    for (isize i = 0; i < count; ++i) x[i] += static_cast<V>(std_in_units * next());
  }

private:
  /// Numbers come in pairs; the second of a pair waits for the next call.
  DPOPT_NO_CONTRACT double next() {
    if (has_spare_) {
      has_spare_ = false;
      return pair_[1];
    }
    const std::uint64_t radius = detail::uniform_bits(generator_);
    const std::uint64_t angle = detail::uniform_bits(generator_);
    detail::box_muller<1>({static_cast<std::uint32_t>(radius >> 32)}, {static_cast<std::uint32_t>(radius)},
                          {static_cast<std::uint32_t>(angle >> 32)}, {static_cast<std::uint32_t>(angle)}, pair_.data());
    has_spare_ = true;
    return pair_[0];
  }

  double noise_multiplier_;
  URBG generator_;
  std::array<double, 2> pair_ = {};
  bool has_spare_ = false;
};

static_assert(NoiseMechanism<sequential_gaussian<std::mt19937_64>, float>);
static_assert(NoiseMechanism<sequential_gaussian<std::mt19937_64>, double>);
static_assert(!AddressableNoise<sequential_gaussian<std::mt19937_64>>);

} // namespace dpopt
