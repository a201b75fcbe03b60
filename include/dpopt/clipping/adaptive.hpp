// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Bounds that follow a quantile of the gradients' norms, learned under the same privacy budget (Andrew et al. 2021,
/// arXiv 1905.03871, algorithm 1 and theorem 1). For flat one bound, for per_layer and per_group one a group.
///
/// Of every unit and group one bit b leaves, "norm <= C", in a noisy sum over units:
///     fraction = 1/2 + (sum of (b - 1/2) + N(0, count_noise_std^2)) / expected number of units,
///     C <- C exp(-learning_rate (fraction - target_quantile)), kept within [least_bound, greatest_bound].
///
/// Privacy: centred bits move each of k sums by at most 1/2, so sums and gradients together are one Gaussian mechanism
/// whose multiplier z is z^-2 = z_gradients^-2 + k / (2 count_noise_std)^2. The accountant charges z, the noise
/// mechanism's; the gradients get z_gradients > z. With neighbouring::replace_one a unit may move a sum by 1 and the
/// gradients by 2 C: both noises double alike, and the same z holds. With zero_out the empty unit counts as weight 0
/// does. Units that are masked or not finite add 0, so nothing but noisy sums is ever learned; the divisor is the
/// expected number of units, since the actual one is private.
#pragma once

#include "dpopt/clipping/clipper.hpp"
#include "dpopt/clipping/flat.hpp"
#include "dpopt/core/batch_size.hpp"
#include "dpopt/core/error.hpp"
#include "dpopt/core/portable_functions.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace dpopt {

struct adaptive_options {
  /// Share of units that is to stay unclipped, in [0, 1].
  double target_quantile = 0.5;
  /// Of the logarithm of C, above 0. The paper's 0.2 moves C by at most 22 % a step while counts are exact.
  double learning_rate = 0.2;
  /// Std of the noise on each count of units; required. The paper suggests a twentieth of the expected number of units.
  /// Below noise_multiplier sqrt(groups) / 2 nothing is left for the gradients. 0 only together with noise_multiplier
  /// 0.
  double count_noise_std = std::numeric_limits<double>::quiet_NaN();
  /// Units that a logical batch is expected to hold; required, and the one that scales the gradients. per_rank(x) or a
  /// bare number: on each rank; across_ranks(x): on all.
  batch_size expected_batch_size = {};
  /// C never leaves [least_bound, greatest_bound]. The integer grid is sized for the greatest, so give it a close one
  /// there.
  double least_bound = 1e-6;
  double greatest_bound = 1e6;
};

/// adaptive{flat{0.1}, {.count_noise_std = 12.8, .expected_batch_size = across_ranks{256}}}. The inner clipper's bounds
/// are where C starts. With a rule inside, C is still the quantile, and the rule has its own way with it: automatic and
/// psac normalize to C, drop_above keeps norms up to its ratio times C; with unit_norm, C moves what is clipped and not
/// the size of the update.
template <class Inner>
struct adaptive {
  static_assert(
      AdjustableClipper<Inner>,
      "dpopt: adaptive moves the bounds of flat, per_layer or per_group, plain or with a rule or unit_norm around "
      "them; only norm_quantiles goes around it, and never scheduled.");
  using role = roles::clipper;
  Inner inner = {};
  adaptive_options options = {};

  adaptive() = default;
  adaptive(Inner clipper, adaptive_options how) : inner(std::move(clipper)), options(std::move(how)) {}

  /// @throw invalid_argument naming the option that is wrong, and as the inner clipper does.
  void bind(std::span<const parameter_info> parameters) {
    if (!first_.empty()) inner.set_clip_norms(first_); // what was given, not what was learned
    inner.bind(parameters);
    first_.clear();
    for (isize g = 0; g < inner.groups(); ++g) first_.push_back(inner.clip_norm(g));
    validate();
    text_ = inner.describe();
    inner.set_clip_norms(std::vector<double>(first_.size(), options.greatest_bound));
    greatest_ = inner.sensitivity(neighbouring::add_remove);
    if (bounds_.empty()) bounds_ = first_;
    require_bounds(bounds_);
    inner.set_clip_norms(bounds_);
  }

  [[nodiscard]] isize groups() const noexcept { return inner.groups(); }
  [[nodiscard]] isize group_of(isize p) const noexcept { return inner.group_of(p); }
  [[nodiscard]] auto rule(isize g) const noexcept { return inner.rule(g); }
  [[nodiscard]] double bound(isize g) const noexcept { return inner.bound(g); }
  [[nodiscard]] double sensitivity(neighbouring relation) const noexcept { return inner.sensitivity(relation); }
  /// The configuration, the same at every step: where the bounds start, not where they are.
  [[nodiscard]] std::string describe() const {
    return message("adaptive(", text_.empty() ? inner.describe() : text_, ", target_quantile=", options.target_quantile,
                   ", learning_rate=", options.learning_rate, ", count_noise_std=", options.count_noise_std,
                   ", expected_batch_size=", options.expected_batch_size.describe(), ", bounds within [",
                   options.least_bound, ", ", options.greatest_bound, "])");
  }

  /// C of each group in the coming step. Public: it follows from what was released.
  [[nodiscard]] const std::vector<double>& bounds() const noexcept { return bounds_; }
  /// What restore() goes on from: bounds().
  [[nodiscard]] std::vector<double> state() const { return bounds_; }
  /// Goes on from bounds() of another run, before or after bind().
  /// @throw invalid_argument unless there is one for each group, within the options' range. Before bind(): it throws.
  void restore(std::vector<double> bounds) {
    if (!first_.empty()) {
      require_bounds(bounds);
      inner.set_clip_norms(bounds);
    }
    bounds_ = std::move(bounds);
  }

  // What LearningClipper asks for.

  [[nodiscard]] isize side_scalars() const noexcept { return groups(); }
  void observe(isize g, double norm, std::span<double> side) const noexcept {
    side[static_cast<std::size_t>(g)] += norm <= bounds_[static_cast<std::size_t>(g)] ? 0.5 : -0.5;
  }
  [[nodiscard]] double side_std(neighbouring relation) const noexcept {
    return contributions_changed(relation) * options.count_noise_std;
  }
  /// sqrt(1 / (z^-2 - k / (2 count_noise_std)^2)); 0 for z = 0. @throw invalid_argument when that is no number.
  [[nodiscard]] double gradient_multiplier(double multiplier) const {
    if (multiplier == 0) return 0;
    const double k = static_cast<double>(groups());
    const double most = 2 * options.count_noise_std / std::sqrt(k); // what the counts alone cost
    const double part = multiplier / most;
    const double left = 1 - part * part;
    if (!(left > 0))
      throw invalid_argument(
          message("adaptive: noise_multiplier is ", multiplier, ", but ", groups(), " counts with count_noise_std ",
                  options.count_noise_std, " alone cost as much as ", most,
                  " = 2 count_noise_std / sqrt(groups), which leaves nothing for the gradients; raise "
                  "count_noise_std above ",
                  multiplier * std::sqrt(k) / 2));
    return multiplier / std::sqrt(left);
  }
  [[nodiscard]] double greatest_sensitivity() const noexcept { return greatest_; }
  void learn(std::span<const double> noisy, isize iterations, int ranks) {
    const double expected = options.expected_batch_size.over(ranks) * static_cast<double>(iterations);
    for (std::size_t g = 0; g < bounds_.size(); ++g) {
      const double fraction = 0.5 + noisy[g] / expected;
      const double moved = bounds_[g] * portable_exp(-options.learning_rate * (fraction - options.target_quantile));
      bounds_[g] = std::clamp(moved, options.least_bound, options.greatest_bound);
    }
    inner.set_clip_norms(bounds_);
  }

private:
  void validate() const {
    const auto require = [](bool holds, const char* option, double value, const char* use) {
      if (!holds) throw invalid_argument(message("adaptive: ", option, " is ", value, "; give ", use));
    };
    const auto& o = options;
    require(o.target_quantile >= 0 && o.target_quantile <= 1, "target_quantile", o.target_quantile,
            "a share in [0, 1]");
    require(o.learning_rate > 0 && std::isfinite(o.learning_rate), "learning_rate", o.learning_rate,
            "a finite number above 0");
    require(o.count_noise_std >= 0 && std::isfinite(o.count_noise_std), "count_noise_std", o.count_noise_std,
            "the std of the noise on each count, a finite number of at least 0");
    if (!o.expected_batch_size.given())
      throw invalid_argument("adaptive: expected_batch_size: not given; give per_rank(units) or across_ranks(units)");
    const double units = o.expected_batch_size.value();
    require(units > 0 && std::isfinite(units), "expected_batch_size", units, "a finite number above 0");
    require(o.least_bound > 0 && std::isfinite(o.least_bound), "least_bound", o.least_bound, "a finite number above 0");
    require(o.greatest_bound >= o.least_bound && std::isfinite(o.greatest_bound), "greatest_bound", o.greatest_bound,
            "a finite number of at least least_bound");
    require_bounds(first_);
  }

  void require_bounds(const std::vector<double>& bounds) const {
    if (bounds.size() != first_.size())
      throw invalid_argument(
          message("adaptive: ", bounds.size(), " bounds to go on from for ", first_.size(), " groups; give one each"));
    for (std::size_t g = 0; g < bounds.size(); ++g)
      if (!(bounds[g] >= options.least_bound && bounds[g] <= options.greatest_bound))
        throw invalid_argument(message("adaptive: the bound of group ", g, " starts at ", bounds[g], ", outside [",
                                       options.least_bound, ", ", options.greatest_bound,
                                       "]; widen least_bound and greatest_bound or start inside"));
  }

  std::vector<double> first_;  // of the inner clipper as given; from bind() on
  std::vector<double> bounds_; // now; before bind() only what restore() gave
  std::string text_;           // of the inner clipper as given
  double greatest_ = 0;
};

static_assert(BoundedClipper<adaptive<flat>> && LearningClipper<adaptive<flat>> && !AdjustableClipper<adaptive<flat>>);
static_assert(RestorableClipper<adaptive<flat>>);

} // namespace dpopt
