// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The Placement role: which rank adds which part of the noise, before or after the reduction.
///
/// Satisfied by replicated (default), root_before_reduction, independent_shares, sharded. Contract: over all ranks the
/// released sum carries the variance std^2 exactly once: sum of before().std_factor^2 over the ranks, plus
/// after().std_factor^2, which must be the same number on every rank.
///
/// | policy                | who draws                   | what a rank sees                                        |
/// |-----------------------|-----------------------------|---------------------------------------------------------|
/// | replicated            | every rank the same numbers | the exact sum: every rank is trusted                    |
/// | root_before_reduction | rank 0                      | the noisy sum, from which rank 0 can subtract its noise |
/// | independent_shares    | every rank its own share    | the noisy sum, from which it can subtract its own share |
/// | sharded               | the rank that owns a number | the exact sum of its own 1/W, and the noisy rest        |
///
/// Only Gaussians add up to a Gaussian: a placement that splits the noise refuses every other kind, and so does one
/// that does not say `whole`.
///
/// The few counts of a clipper that learns are not sharded: with `sharded`, too, every rank sees them exactly.
///
/// In all four, ranks that share a mechanism's secret could compute any noise; the table holds for ranks that only
/// look at what the reduction delivers.
#pragma once

#include "dpopt/core/types.hpp"

#include <cmath>
#include <concepts>
#include <cstdint>
#include <string>

namespace dpopt {

/// A rank's part: the std of its noise over the std of the release, and its lane in the stream. 0 adds nothing.
struct share {
  double std_factor = 0;
  std::uint32_t lane = 0;
};

/// `before(rank, ranks)` is added to the rank's own sum, `after(rank, ranks)` to the reduced sum; 0 <= rank < ranks.
/// `before_reduction`: whether before() ever adds anything; if so the noise has the accumulator's type.
/// `needs_addressable`: fit only for mechanisms whose numbers are a function of (secret, address).
template <class P>
concept Placement = requires(const P p, int rank, int ranks) {
  { P::needs_addressable } -> std::convertible_to<bool>;
  { P::before_reduction } -> std::convertible_to<bool>; // whether before() is ever more than 0: then it is called
  { p.before(rank, ranks) } -> std::same_as<share>;
  { p.after(rank, ranks) } -> std::same_as<share>;
};

/// A placement that draws each number once with the whole std: std_factor is 0 or 1, never a part.
template <class P>
concept WholePlacement = Placement<P> && requires { requires P::whole; };

/// A placement whose sums are reduce-scattered: each rank sees and releases a part, and the released parts are
/// all-gathered. Needs a communicator that Scatters.
template <class P>
concept ScatteringPlacement = WholePlacement<P> && requires { requires P::scatters; };

/// After the reduction each rank adds the same noise to the same sum, so the result is equal everywhere without any
/// traffic. Every rank holds the secret and sees the exact sum.
struct replicated {
  using role = roles::placement;
  static constexpr bool needs_addressable = true; // all ranks draw the same
  static constexpr bool before_reduction = false;
  static constexpr bool whole = true;
  [[nodiscard]] static constexpr share before(int /*rank*/, int /*ranks*/) noexcept { return {}; }
  [[nodiscard]] static constexpr share after(int /*rank*/, int /*ranks*/) noexcept { return {1, 0}; }
  [[nodiscard]] static std::string describe() { return "replicated"; }
};

/// Rank 0 adds all the noise to its own sum before the reduction, as Opacus does; the only one for a sequential
/// generator on several ranks.
struct root_before_reduction {
  using role = roles::placement;
  static constexpr bool needs_addressable = false; // one rank draws
  static constexpr bool before_reduction = true;
  static constexpr bool whole = true;
  [[nodiscard]] static constexpr share before(int rank, int /*ranks*/) noexcept { return {rank == 0 ? 1.0 : 0.0, 0}; }
  [[nodiscard]] static constexpr share after(int /*rank*/, int /*ranks*/) noexcept { return {}; }
  [[nodiscard]] static std::string describe() { return "root_before_reduction"; }
};

/// Each of W ranks adds noise of std / sqrt(W) to its own sum; independent Gaussians add up to std. It relies on
/// independence: lane rank + 1 keeps the streams apart, which only an addressable mechanism honours. If k ranks pool
/// what they know, the noise that is left has std sqrt(1 - k / W).
struct independent_shares {
  using role = roles::placement;
  static constexpr bool needs_addressable = true; // lanes must be independent streams
  static constexpr bool before_reduction = true;
  [[nodiscard]] static share before(int rank, int ranks) noexcept {
    return {1 / std::sqrt(static_cast<double>(ranks)), static_cast<std::uint32_t>(rank) + 1};
  }
  [[nodiscard]] static constexpr share after(int /*rank*/, int /*ranks*/) noexcept { return {}; }
  [[nodiscard]] static std::string describe() { return "independent_shares"; }
};

/// Each rank gets the sum of its own part of each bucket alone, adds the noise that `replicated` would add there, and
/// sends the released numbers to the others: the same bits as `replicated` from the same sums, while a rank that only
/// looks sees 1/W of the exact sum. Drawing takes 1/W of the time. Two messages a bucket in the place of one, which
/// together carry what an all-reduce does; the second cannot overlap with the backward pass.
struct sharded {
  using role = roles::placement;
  static constexpr bool needs_addressable = true; // numbers must not depend on who draws them
  static constexpr bool before_reduction = false;
  static constexpr bool whole = true;
  static constexpr bool scatters = true;
  [[nodiscard]] static constexpr share before(int /*rank*/, int /*ranks*/) noexcept { return {}; }
  [[nodiscard]] static constexpr share after(int /*rank*/, int /*ranks*/) noexcept { return {1, 0}; }
  [[nodiscard]] static std::string describe() { return "sharded"; }
};

static_assert(ScatteringPlacement<sharded> && !ScatteringPlacement<replicated>);
static_assert(WholePlacement<replicated> && WholePlacement<root_before_reduction>);
static_assert(Placement<independent_shares> && !WholePlacement<independent_shares>);

} // namespace dpopt
