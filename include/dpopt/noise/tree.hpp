// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Binary tree aggregation with restarts (Kairouz, McMahan, Song, Thakkar, Thakurta and Xu 2021, arXiv:2103.00039;
/// Dwork, Naor, Pitassi and Rothblum 2010): a prefix sum of c releases is the sum of one node for each bit of c that is
/// set, and carries their noise.
///
/// In prefix sums only left children and roots are ever used, and of these exactly one ends at each release: the one
/// that covers the releases (c - 2^l, c], where 2^l is the lowest bit of c. So a node's noise is z_c, drawn at its end,
/// and
///
///     x_c = z_c - z_{c-1} - z_{c-2} - z_{c-4} - ... - z_{c-2^(l-1)}    (2 draws a release on average)
///
/// replaces the nodes below it. All is drawn again from the base's stream; what is kept is one step number a level.
/// A restart closes the tree: its nodes stay in all later sums, and the next release is the first of a new one.
///
/// When to use: to reproduce published runs. banded and blt leave less noise.
#pragma once

#include "dpopt/core/error.hpp"
#include "dpopt/core/platform.hpp"
#include "dpopt/core/types.hpp"
#include "dpopt/noise/run_plan.hpp"
#include "dpopt/noise/strategy.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>

namespace dpopt {

namespace detail {
/// Bound on the L2 distance of all nodes of the trees of one run, level by level: a node of 2^l releases holds a record
/// at most ceil(2^l / separation) times, there are nodes_of(releases, 2^l) of them in a tree, and the sum of squares is
/// largest when as many of them as possible are full.
template <class NodesOf>
[[nodiscard]] DPOPT_NO_CONTRACT double tree_sensitivity(const run_plan& plan, std::uint64_t restart_every,
                                                        NodesOf&& nodes_of) {
  DPOPT_NO_CONTRACT_BLOCK
  const std::uint64_t n = plan.releases;
  const std::uint64_t size = restart_every == 0 ? n : std::min(restart_every, n);
  double squares = 0;
  for (std::uint64_t length = 1; length <= size; length *= 2) {
    const std::uint64_t nodes = n / size * nodes_of(size, length) + nodes_of(n % size, length);
    const std::uint64_t most =
        std::min(length / plan.separation + (length % plan.separation == 0 ? 0 : 1), plan.most_participations());
    const std::uint64_t full = std::min(plan.most_participations() / most, nodes);
    const std::uint64_t rest = full < nodes ? plan.most_participations() - full * most : 0;
    squares += static_cast<double>(full) * static_cast<double>(most) * static_cast<double>(most) +
               static_cast<double>(rest) * static_cast<double>(rest);
  }
  return std::sqrt(squares) * (1 + 0x1p-48);
}
} // namespace detail

/// tree() or tree(releases of a pass).
class tree {
public:
  /// @param restart_every Releases of one tree; 0 is one tree for the whole run.
  explicit tree(std::uint64_t restart_every = 0) : restart_every_(restart_every) {}

  void validate(const run_plan& /*plan*/) const {} // every tree is one

  /// Exact for one participation: the first release of a tree is in one node a level. Otherwise an upper bound.
  [[nodiscard]] double sensitivity(const run_plan& plan) const {
    return detail::tree_sensitivity(plan, restart_every_, [](std::uint64_t releases, std::uint64_t length) {
      return (releases / length + 1) / 2; // ends at odd multiples
    });
  }

  void start_row(std::uint64_t step) {
    const std::uint64_t end = ++row_; // within its tree, counted from 1
    const int level = std::countr_zero(end);
    terms_[0] = {step, 1};
    for (int l = 0; l < level; ++l) terms_[static_cast<std::size_t>(l) + 1] = {node_[static_cast<std::size_t>(l)], -1};
    count_ = static_cast<std::uint64_t>(level) + 1;
    node_[static_cast<std::size_t>(level)] = step;
    if (row_ == restart_every_) row_ = 0;
  }

  [[nodiscard]] std::span<const stream_term> terms() const noexcept { return std::span(terms_).first(count_); }
  [[nodiscard]] double row_norm() const noexcept { return std::sqrt(static_cast<double>(count_)); }

  template <class F>
  void visit_state(F&& f) {
    f(std::as_writable_bytes(std::span(&row_, 1)));
    f(std::as_writable_bytes(std::span(&count_, 1)));
    f(std::as_writable_bytes(std::span(terms_)));
    f(std::as_writable_bytes(std::span(node_)));
  }

  [[nodiscard]] std::string describe() const {
    return restart_every_ == 0 ? "tree" : message("tree(restart every ", restart_every_, ")");
  }

private:
  static constexpr std::size_t levels = 64;

  std::uint64_t restart_every_;
  std::uint64_t row_ = 0;                    // of the open tree, so far
  std::array<std::uint64_t, levels> node_{}; // step of the latest node of each level
  std::array<stream_term, levels + 1> terms_{};
  std::uint64_t count_ = 0;
};

static_assert(RegeneratingStrategy<tree>);

} // namespace dpopt
