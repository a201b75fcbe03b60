// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Quantiles of the gradients' norms, seen only through a noised release: around any clipper, which clips as it did.
///
/// Of each unit and group one 1 leaves, in the cell (e_{j-1}, e_j] of a histogram that its norm falls into, summed over
/// units with N(0, count_noise_std^2) on each of the k + 1 cells of k edges. All that can be read here is computed from
/// these sums, and so costs nothing more (post-processing).
///
/// Privacy: the cells are disjoint, so that a unit moves a group's histogram by 1 in L2 norm however many edges there
/// are, and with G groups gradients and counts together are one Gaussian mechanism with multiplier z,
///     z^-2 = z_gradients^-2 + G / count_noise_std^2
/// (the argument of Andrew et al. 2021, arXiv 1905.03871, theorem 1, for sums of another sensitivity). One centred bit
/// an edge would cost k G / (2 count_noise_std)^2, which is more from 5 edges on. The accountant charges z, the noise
/// mechanism's. With neighbouring::replace_one a unit leaves one cell for another, which moves the histogram by
/// sqrt(2): the counts' noise grows by that, gradients' by 2, and the same z holds. Units that are masked or not finite
/// add 0. Nothing here depends on the actual number of units but through the noisy counts.
///
/// All side scalars of a step share one std. Around a clipper that learns, whose bits need twice the noise with
/// replace_one, counts then get 2 count_noise_std where sqrt(2) would do.
#pragma once

#include "dpopt/clipping/clipper.hpp"
#include "dpopt/clipping/flat.hpp"
#include "dpopt/core/error.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace dpopt {

/// `count` edges from `least` to `greatest`, each the same multiple of the one before: norms differ by factors.
[[nodiscard]] inline std::vector<double> geometric_edges(double least, double greatest, int count) {
  std::vector<double> out;
  for (int j = 0; j < count; ++j)
    out.push_back(count == 1 ? least : least * std::pow(greatest / least, j / static_cast<double>(count - 1)));
  return out;
}

struct norm_quantiles_options {
  /// Where cells end: norms up to and including it, rising, above 0. Public, so not chosen by looking at norms.
  std::vector<double> edges = {};
  /// Std of the noise on each count of units; required. 0 only together with noise_multiplier 0.
  double count_noise_std = std::numeric_limits<double>::quiet_NaN();
  /// What older counts weigh: 1 is the total of all steps, 0 the last step alone.
  double memory = 1;
};

/// norm_quantiles{flat{1.0}, {.edges = geometric_edges(0.01, 100, 17), .count_noise_std = 13}}. Goes outermost, also
/// around adaptive and scheduled. Norms are those that are clipped: after weights and gradient scale.
template <class Inner>
struct norm_quantiles {
  static_assert(Clipper<Inner>, "dpopt: norm_quantiles goes around a clipper, whose norms it counts.");
  using role = roles::clipper;
  Inner inner = {};
  norm_quantiles_options options = {};

  norm_quantiles() = default;
  norm_quantiles(Inner clipper, norm_quantiles_options how) : inner(std::move(clipper)), options(std::move(how)) {}

  /// @throw invalid_argument naming the option that is wrong, and as the inner clipper does.
  void bind(std::span<const parameter_info> parameters) {
    inner.bind(parameters);
    validate();
    const std::size_t numbers = static_cast<std::size_t>(groups()) * cells();
    if (counts_.empty()) counts_.assign(numbers, 0.0);
    require_cells(counts_.size(), numbers);
    if constexpr (LearningClipper<Inner>) {
      const double theirs = inner.side_std(neighbouring::add_remove); // side scalars share one std
      if (theirs > 0 && options.count_noise_std > 0) one_ = theirs / options.count_noise_std;
    }
  }

  [[nodiscard]] isize groups() const noexcept { return inner.groups(); }
  [[nodiscard]] isize group_of(isize p) const noexcept { return inner.group_of(p); }
  [[nodiscard]] auto rule(isize g) const noexcept { return inner.rule(g); }
  [[nodiscard]] double bound(isize g) const noexcept
    requires BoundedClipper<Inner>
  {
    return inner.bound(g);
  }
  [[nodiscard]] double sensitivity(neighbouring relation) const noexcept { return inner.sensitivity(relation); }
  void start_step(std::uint64_t t)
    requires FollowsSteps<Inner>
  {
    inner.start_step(t);
  }
  /// The configuration, the same at every step.
  [[nodiscard]] std::string describe() const {
    std::string edges;
    for (const double e : options.edges) edges += message(edges.empty() ? "" : ", ", e);
    return message("norm_quantiles(", inner.describe(), ", edges={", edges,
                   "}, count_noise_std=", options.count_noise_std, ", memory=", options.memory, ")");
  }

  // What was released so far. Public.

  /// Noisy counts of group g, one a cell, the last above all edges: c <- memory c + counts of the step. After bind().
  /// @throw invalid_argument for an unknown group, as quantile() does.
  [[nodiscard]] std::span<const double> counts(isize g) const {
    const isize known = std::ssize(counts_) / static_cast<isize>(cells());
    if (g < 0 || g >= known)
      throw invalid_argument(message("norm_quantiles: group ", g, " does not exist; there are ", known));
    return std::span(counts_).subspan(static_cast<std::size_t>(g) * cells(), cells());
  }
  /// Std of the noise in each of counts(), where steps have independent noise.
  [[nodiscard]] double counts_std(neighbouring relation) const noexcept {
    return side_std(relation) / one_ * std::sqrt(squared_weights_);
  }
  /// An estimate of the norm that a share q in [0, 1] of the units does not exceed, linear between edges; infinity when
  /// it lies above the last one, NaN while the counts do not add up to more than 0. The counts below each edge are made
  /// to rise by averaging the greatest before with the least after it, which favours neither side.
  [[nodiscard]] double quantile(double q, isize g = 0) const {
    const auto each = counts(g);
    std::vector<double> below(each.size()), least(each.size());
    double sum = 0;
    for (std::size_t j = 0; j < each.size(); ++j) below[j] = (sum += each[j]);
    if (!(sum > 0)) return std::numeric_limits<double>::quiet_NaN();
    least.back() = sum;
    for (std::size_t j = each.size() - 1; j > 0; --j) least[j - 1] = std::min(least[j], below[j - 1]);
    double before = 0; // units at or below the edge before
    double greatest = 0;
    for (std::size_t j = 0; j + 1 < each.size(); ++j) {
      greatest = std::max(greatest, below[j]);
      const double now = std::max(0.0, (greatest + least[j]) / 2);
      if (now >= q * sum && now > 0) {
        const double from = j == 0 ? 0 : options.edges[j - 1];
        const double share = now > before ? std::max(0.0, (q * sum - before) / (now - before)) : 0;
        return from + share * (options.edges[j] - from);
      }
      before = now;
    }
    return std::numeric_limits<double>::infinity();
  }

  /// What restore() goes on from; of an inner clipper that learns as well: how many counts, the weight of their noise,
  /// the counts, the inner state.
  [[nodiscard]] std::vector<double> state() const {
    std::vector<double> out{static_cast<double>(counts_.size()), squared_weights_};
    out.insert(out.end(), counts_.begin(), counts_.end());
    if constexpr (RestorableClipper<Inner>) {
      const std::vector<double> theirs = inner.state();
      out.insert(out.end(), theirs.begin(), theirs.end());
    }
    return out;
  }
  /// Before or after bind(). @throw invalid_argument unless it is a state() of as many groups and edges. Before bind():
  /// it throws.
  void restore(std::vector<double> state) {
    const double given = state.empty() ? -1 : state[0];
    if (!(given >= 0 && given + 2 <= static_cast<double>(state.size())))
      throw invalid_argument("norm_quantiles: this is no state to go on from; give what state() gave");
    const auto own = static_cast<std::size_t>(given);
    if (!counts_.empty()) require_cells(own, counts_.size());
    const auto theirs = state.begin() + 2 + static_cast<std::ptrdiff_t>(own);
    if constexpr (RestorableClipper<Inner>) inner.restore({theirs, state.end()});
    squared_weights_ = state[1];
    counts_.assign(state.begin() + 2, theirs);
  }

  // What LearningClipper asks for: the inner clipper's side scalars, then a histogram a group.

  [[nodiscard]] isize side_scalars() const noexcept {
    return inner_scalars() + groups() * std::ssize(options.edges) + groups();
  }
  void observe(isize g, double norm, std::span<double> side) const noexcept {
    const auto theirs = static_cast<std::size_t>(inner_scalars());
    if constexpr (LearningClipper<Inner>) inner.observe(g, norm, side.first(theirs));
    const auto cell = std::ranges::lower_bound(options.edges, norm) - options.edges.begin();
    side[theirs + static_cast<std::size_t>(g) * cells() + static_cast<std::size_t>(cell)] += one_;
  }
  [[nodiscard]] double side_std(neighbouring relation) const noexcept {
    if constexpr (LearningClipper<Inner>)
      if (inner.side_std(neighbouring::add_remove) > 0) return inner.side_std(relation); // no less than ours needs
    return own_std(relation);
  }
  /// Of 1 / sqrt(z^-2 - G / count_noise_std^2) what an inner clipper that learns leaves; 0 for z = 0.
  /// @throw invalid_argument when nothing is left.
  [[nodiscard]] double gradient_multiplier(double multiplier) const {
    double left = multiplier;
    if (multiplier != 0) {
      const double most = options.count_noise_std / std::sqrt(static_cast<double>(groups())); // the counts' alone
      const double part = multiplier / most;
      if (!(part < 1))
        throw invalid_argument(
            message("norm_quantiles: noise_multiplier is ", multiplier, ", but histograms of ", groups(),
                    " groups with count_noise_std ", options.count_noise_std, " alone cost as much as ", most,
                    " = count_noise_std / sqrt(groups), which leaves nothing for the gradients; raise "
                    "count_noise_std above ",
                    multiplier * std::sqrt(static_cast<double>(groups()))));
      left = multiplier / std::sqrt(1 - part * part);
    }
    if constexpr (LearningClipper<Inner>) return inner.gradient_multiplier(left);
    else return left;
  }
  [[nodiscard]] double greatest_sensitivity() const noexcept {
    if constexpr (requires { inner.greatest_sensitivity(); }) return inner.greatest_sensitivity();
    else return inner.sensitivity(neighbouring::add_remove);
  }
  void learn(std::span<const double> noisy, isize iterations, int ranks) {
    const auto theirs = static_cast<std::size_t>(inner_scalars());
    if constexpr (LearningClipper<Inner>) inner.learn(noisy.first(theirs), iterations, ranks);
    for (std::size_t j = 0; j < counts_.size(); ++j)
      counts_[j] = options.memory * counts_[j] + noisy[theirs + j] / one_;
    squared_weights_ = options.memory * options.memory * squared_weights_ + 1;
  }

private:
  [[nodiscard]] std::size_t cells() const noexcept { return options.edges.size() + 1; }
  [[nodiscard]] isize inner_scalars() const noexcept {
    if constexpr (LearningClipper<Inner>) return inner.side_scalars();
    else return 0;
  }
  /// replace_one moves two cells by 1; the factor is a little above sqrt(2), as a bound on noise must be.
  [[nodiscard]] double own_std(neighbouring relation) const noexcept {
    return options.count_noise_std * (contributions_changed(relation) > 1 ? 1.4142135623730952 : 1);
  }

  void validate() const {
    if (options.edges.empty())
      throw invalid_argument(
          "norm_quantiles: edges: not given; give rising norms, such as geometric_edges(0.01, 100, 17)");
    double before = 0;
    for (std::size_t j = 0; j < options.edges.size(); ++j) {
      if (!(options.edges[j] > before && std::isfinite(options.edges[j])))
        throw invalid_argument(message("norm_quantiles: edges[", j, "] is ", options.edges[j],
                                       "; give finite numbers above 0, each above the one before"));
      before = options.edges[j];
    }
    if (!(options.count_noise_std >= 0 && std::isfinite(options.count_noise_std)))
      throw invalid_argument(message("norm_quantiles: count_noise_std is ", options.count_noise_std,
                                     "; give the std of the noise on each count, a finite number of at least 0"));
    if (!(options.memory >= 0 && options.memory <= 1))
      throw invalid_argument(
          message("norm_quantiles: memory is ", options.memory, "; give the weight of older counts, in [0, 1]"));
  }
  static void require_cells(std::size_t given, std::size_t wanted) {
    if (given != wanted)
      throw invalid_argument(message("norm_quantiles: ", given, " counts to go on from for ", wanted,
                                     " cells of all groups; give one each, from a state() of the same edges"));
  }

  std::vector<double> counts_; // [groups x cells]; before bind() only what restore() gave
  double squared_weights_ = 0; // of the steps in counts_
  double one_ = 1;             // what a unit adds to its cell, so that the common std means count_noise_std
};

static_assert(RestorableClipper<norm_quantiles<flat>> && BoundedClipper<norm_quantiles<flat>> &&
              LearningClipper<norm_quantiles<flat>> && !AdjustableClipper<norm_quantiles<flat>>);

} // namespace dpopt
