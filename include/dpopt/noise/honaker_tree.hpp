// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Binary tree aggregation whose prefix sums use every node (Honaker 2015, the estimator from below; Kairouz, McMahan,
/// Song, Thakkar, Thakurta and Xu 2021, arXiv:2103.00039, appendix B): the sum over a full subtree of height h is
/// estimated by its own node and by its two halves, weighted by their variances,
///
///     e_h = w_h z + (1 - w_h) (e_left + e_right),  w_h = 2 V_{h-1} / (1 + 2 V_{h-1}),  V_h = 1 / (2 - 2^-h)
///
/// so that a node costs a variance of V_h, close to 1/2, where the plain tree pays 1.
///
/// All nodes that end at one release are drawn there and used only together, so one number a release stands for them:
/// with h the zeros at the end of the release's number c in binary, and e_l the estimates of the left subtrees that c
/// completes,
///
///     e_h = s_h z_c + sum_{l<h} d_{h,l} e_l,  d_{h,l} = prod_{m=l+1..h} (1 - w_m),  x_c = e_h - sum_{l<h} e_l
///
/// What is kept is one estimate a level, log2(releases) + 1 vectors of the model's size.
///
/// When to use: to reproduce published runs; half the noise variance of tree. blt leaves less and keeps less.
#pragma once

#include "dpopt/core/error.hpp"
#include "dpopt/core/platform.hpp"
#include "dpopt/core/types.hpp"
#include "dpopt/noise/run_plan.hpp"
#include "dpopt/noise/strategy.hpp"
#include "dpopt/noise/tree.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace dpopt {

/// honaker_tree() or honaker_tree(releases of a pass). State is the type of what is kept.
template <std::floating_point State = double>
class honaker_tree {
public:
  using state_type = State;

  /// @param restart_every Releases of one tree; 0 is one tree for the whole run.
  explicit honaker_tree(std::uint64_t restart_every = 0) : restart_every_(restart_every) {}

  void validate(const run_plan& plan) {
    const std::uint64_t size = restart_every_ == 0 ? plan.releases : std::min(restart_every_, plan.releases);
    heights_ = static_cast<std::size_t>(std::bit_width(size));
  }

  /// Exact for one participation. Otherwise that of a tree of which every complete node is published, from which the
  /// estimates follow: an upper bound, level by level as in tree. Weights that are rounded to float change no number of
  /// C, of which none is negative, by more than 2^-23 of it.
  [[nodiscard]] DPOPT_NO_CONTRACT double sensitivity(const run_plan& plan) const {
    DPOPT_NO_CONTRACT_BLOCK
    constexpr double rounding = 1 + (sizeof(State) < sizeof(double) ? 0x1p-22 : 0x1p-44);
    if (plan.most_participations() == 1) return std::sqrt(largest_column()) * rounding;
    return rounding * detail::tree_sensitivity(plan, restart_every_, [](std::uint64_t releases, std::uint64_t length) {
             return releases / length; // complete nodes
           });
  }

  /// Kept vectors of the model's size.
  [[nodiscard]] isize vectors() const noexcept { return static_cast<isize>(heights_); }

  void bind(isize n) {
    estimate_.assign(heights_, std::vector<State>(static_cast<std::size_t>(n)));
    row_ = 0;
  }

  void start_row(std::uint64_t /*step*/) {
    const std::uint64_t end = ++row_; // within its tree, counted from 1
    height_ = static_cast<std::uint64_t>(std::countr_zero(end));
    terms_[0] = {static_cast<isize>(height_), 1};
    for (std::size_t l = 0; l < height_; ++l) terms_[l + 1] = {static_cast<isize>(l), -1};
    if (row_ == restart_every_) row_ = 0;
  }

  /// fresh[i] becomes the estimate that ends here.
  DPOPT_NO_CONTRACT void advance(isize first, const State* fresh, isize count) {
    DPOPT_NO_CONTRACT_BLOCK
    const auto h = static_cast<std::size_t>(height_);
    State* const out = estimate_[h].data() + first;
    const auto own = static_cast<State>(std::sqrt(fresh_variance(h)));
    for (isize i = 0; i < count; ++i) out[i] = own * fresh[i];
    for (std::size_t l = 0; l < h; ++l) {
      const auto weight = static_cast<State>(kept_weight(h, l));
      const State* const part = estimate_[l].data() + first;
      for (isize i = 0; i < count; ++i) out[i] += weight * part[i];
    }
  }

  [[nodiscard]] std::span<const stored_term> terms() const noexcept {
    return std::span(terms_).first(static_cast<std::size_t>(height_) + 1);
  }
  [[nodiscard]] const State* vector(isize i) const { return estimate_[static_cast<std::size_t>(i)].data(); }

  [[nodiscard]] DPOPT_NO_CONTRACT double row_norm() const noexcept {
    DPOPT_NO_CONTRACT_BLOCK
    const auto h = static_cast<std::size_t>(height_);
    double squares = fresh_variance(h);
    for (std::size_t l = 0; l < h; ++l) {
      const double taken_back = 1 - kept_weight(h, l);
      squares += taken_back * taken_back * variance(l);
    }
    return std::sqrt(squares);
  }

  template <class F>
  void visit_state(F&& f) {
    f(std::as_writable_bytes(std::span(&row_, 1)));
    f(std::as_writable_bytes(std::span(&height_, 1)));
    f(std::as_writable_bytes(std::span(terms_)));
    for (auto& e : estimate_) f(std::as_writable_bytes(std::span(e)));
  }

  [[nodiscard]] std::string describe() const {
    return restart_every_ == 0 ? "honaker_tree" : message("honaker_tree(restart every ", restart_every_, ")");
  }

private:
  /// V_h, of the estimate of a full subtree over that of one node.
  [[nodiscard]] static double variance(std::size_t h) noexcept {
    return 1 / (2 - std::ldexp(1.0, -static_cast<int>(h)));
  }
  /// w_h, h >= 1.
  [[nodiscard]] static double own_weight(std::size_t h) noexcept {
    return 2 * variance(h - 1) / (1 + 2 * variance(h - 1));
  }
  /// s_h^2.
  [[nodiscard]] static double fresh_variance(std::size_t h) noexcept {
    double s2 = 1;
    for (std::size_t m = 1; m <= h; ++m)
      s2 = own_weight(m) * own_weight(m) + (1 - own_weight(m)) * (1 - own_weight(m)) * s2;
    return s2;
  }
  /// d_{h,l}.
  [[nodiscard]] static double kept_weight(std::size_t h, std::size_t l) noexcept {
    double d = 1;
    for (std::size_t m = l + 1; m <= h; ++m) d *= 1 - own_weight(m);
    return d;
  }

  /// Largest squared norm of a column of C, whose row c is z_c = (x_c + sum_l (1 - d_{h,l}) e_l) / s_h, where e_l is
  /// the sum of x over its subtree. A release is in the rows of the left subtrees around it: by induction over them.
  [[nodiscard]] double largest_column() const {
    std::vector<double> most;
    for (std::size_t h = 0; h < heights_; ++h) {
      double largest = 1; // the release at which the subtree ends
      for (std::size_t l = 0; l < h; ++l) {
        const double weight = 1 - kept_weight(h, l);
        largest = std::max(largest, weight * weight + fresh_variance(h) * most[l]);
      }
      most.push_back(largest / fresh_variance(h));
    }
    return *std::max_element(most.begin(), most.end());
  }

  static constexpr std::size_t levels = 64;

  std::uint64_t restart_every_;
  std::size_t heights_ = 1;                  // of subtrees that a tree completes
  std::uint64_t row_ = 0;                    // of the open tree, so far
  std::uint64_t height_ = 0;                 // of the subtree that ends at the open row
  std::vector<std::vector<State>> estimate_; // by height, of the latest subtree that is not yet part of a larger one
  std::array<stored_term, levels + 1> terms_{};
};

static_assert(StoringStrategy<honaker_tree<float>> && StoringStrategy<honaker_tree<double>>);

} // namespace dpopt
