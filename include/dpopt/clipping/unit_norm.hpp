// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Rescales contributions so that all groups together have sensitivity 1, as normalized DP-SGD does (De et al. 2022,
/// arXiv 2204.13650, eq. 3): the size of the update, noise included, no longer depends on the bounds, and the learning
/// rate need not follow when they change.
#pragma once

#include "dpopt/clipping/clipper.hpp"
#include "dpopt/clipping/flat.hpp"
#include "dpopt/core/platform.hpp"

#include <limits>
#include <span>
#include <string>
#include <type_traits>
#include <utility>

namespace dpopt {

/// Another rule's factor times a constant.
template <class Rule>
struct scaled_rule {
  Rule rule = {};
  double scale = 1;

  [[nodiscard]] DPOPT_DEVICE double operator()(double norm) const noexcept { return rule(norm) * scale; }
};

template <class Inner>
struct unit_norm;

namespace detail {
template <class C>
inline constexpr bool is_unit_norm = false;
template <class Inner>
inline constexpr bool is_unit_norm<unit_norm<Inner>> = true;
} // namespace detail

/// Divides every factor by the inner clipper's add/remove sensitivity. sensitivity = 1 for add/remove and zero-out, 2
/// for replace-one. unit_norm{per_layer{0.1}}, unit_norm{automatic{flat{1.0}}}.
template <class Inner>
struct unit_norm {
  static_assert(BoundedClipper<Inner> && !LearningClipper<Inner> && !FollowsSteps<Inner> &&
                    !detail::is_unit_norm<Inner>,
                "dpopt: unit_norm goes around a grouping or a rule, once; put adaptive and scheduled outside of it.");
  using role = roles::clipper;
  Inner inner = {};

  unit_norm() = default;
  explicit unit_norm(Inner clipper) : inner(std::move(clipper)) {}

  /// @throw invalid_argument as the inner clipper does.
  void bind(std::span<const parameter_info> parameters) {
    inner.bind(parameters);
    rescale();
  }
  [[nodiscard]] isize groups() const noexcept { return inner.groups(); }
  [[nodiscard]] isize group_of(isize p) const noexcept { return inner.group_of(p); }
  [[nodiscard]] auto rule(isize g) const noexcept {
    return scaled_rule<std::remove_cvref_t<decltype(inner.rule(g))>>{inner.rule(g), scale_};
  }
  [[nodiscard]] double bound(isize g) const noexcept { return inner.bound(g) * scale_; }
  [[nodiscard]] double sensitivity(neighbouring relation) const noexcept { return contributions_changed(relation); }
  [[nodiscard]] std::string describe() const { return message("unit_norm(", inner.describe(), ")"); }

  [[nodiscard]] double clip_norm(isize g) const noexcept
    requires AdjustableClipper<Inner>
  {
    return inner.clip_norm(g);
  }
  void set_clip_norms(std::span<const double> bounds) noexcept
    requires AdjustableClipper<Inner>
  {
    inner.set_clip_norms(bounds);
    rescale();
  }

private:
  /// A little below the reciprocal: the roundings of the sensitivity and of the products must not lift anything
  /// above 1.
  void rescale() noexcept {
    scale_ = (1 - 16 * std::numeric_limits<double>::epsilon()) / inner.sensitivity(neighbouring::add_remove);
  }

  double scale_ = std::numeric_limits<double>::quiet_NaN(); // until bind()
};

static_assert(AdjustableClipper<unit_norm<flat>> && !Grouping<unit_norm<flat>>);

} // namespace dpopt
