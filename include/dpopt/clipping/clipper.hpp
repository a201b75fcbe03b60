// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The Clipper role: bounds what one sample can add. A clipper is a grouping (which parameters share a norm) and a rule
/// (norm to factor). Groupings: flat, per_layer, per_group. Rules around a grouping: automatic, psac, drop_above;
/// without one, norm_bound. Around both: unit_norm. Around these, one of what moves the bounds: adaptive, scheduled.
/// Outermost, if norms are to be seen: norm_quantiles.
///
/// Privacy contract: with factors from rule(g), the sum over samples of all groups' contributions moves by at most
/// sensitivity(relation) in L2 norm between neighbouring data sets, in exact arithmetic. Noise and accountant use that
/// number; nobody multiplies by hand. A running sum in floating point rounds each addition, by up to half an ulp of the
/// SUM and so in dependence on the other samples; where that matters, integer_grid adds exactly.
#pragma once

#include "dpopt/clipping/norm_bound.hpp"
#include "dpopt/core/schedules.hpp"
#include "dpopt/core/types.hpp"
#include "dpopt/parameters/parameter_view.hpp"

#include <concepts>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace dpopt {

template <class C>
concept Clipper = std::movable<C> && requires(C c, const C k, std::span<const parameter_info> parameters, isize p,
                                              isize g, neighbouring relation) {
  c.bind(parameters);                                         // once; throws invalid_argument on bad bounds
  { k.groups() } -> std::same_as<isize>;                      // a group's factors exist when all its norms do
  { k.group_of(p) } -> std::same_as<isize>;                   // in [0, groups())
  { k.rule(g)(1.0) } -> std::same_as<double>;                 // norm to factor; factor x norm is bounded
  requires std::is_trivially_copyable_v<decltype(k.rule(g))>; // crosses into kernels by value
  { k.sensitivity(relation) } -> std::same_as<double>;        // of the whole sum, all groups
  { k.describe() } -> std::same_as<std::string>;              // public configuration, compared between ranks
};

/// A clipper whose rule keeps factor x norm of group g at or below bound(g): what decorators build on.
template <class C>
concept BoundedClipper = Clipper<C> && requires(const C k, isize g) {
  { k.bound(g) } -> std::same_as<double>;
};

/// A clipper whose bounds an outer one may move between steps: flat, per_layer, per_group and what decorates them.
template <class C>
concept AdjustableClipper = BoundedClipper<C> && requires(C c, const C k, isize g, std::span<const double> bounds) {
  { k.clip_norm(g) } -> std::same_as<double>; // the grouping's C_g, whatever rules make of it
  c.set_clip_norms(bounds);                   // one a group, > 0; after bind()
};

/// A clipper that learns from noisy scalars of its own, released together with the gradients of every step.
///
/// Privacy contract: noise of side_std(relation) is added to each side scalar, once. With d(relation) the L2 norm of
/// what one unit of privacy moves them by (adaptive: 1/2 a scalar, twice that for replace-one; norm_quantiles: one cell
/// a group by 1, two for replace-one), 1 / gradient_multiplier(z)^2 + (d / side_std)^2 <= 1 / z^2 for every relation:
/// gradients and side scalars together cost no more than one Gaussian mechanism with multiplier z. The accountant is
/// told z.
template <class C>
concept LearningClipper =
    Clipper<C> && requires(C c, const C k, isize g, double norm, std::span<double> side, std::span<const double> noisy,
                           isize iterations, int ranks, double multiplier, neighbouring relation) {
      { k.side_scalars() } -> std::same_as<isize>;                   // after bind(); fixed
      k.observe(g, norm, side);                                      // a unit with finite norm and weight not 0
      { k.side_std(relation) } -> std::same_as<double>;              // of the noise on each side scalar
      { k.gradient_multiplier(multiplier) } -> std::same_as<double>; // throws invalid_argument if nothing is left
      { k.greatest_sensitivity() } -> std::same_as<double>;          // add/remove, over all bounds it may learn
      c.learn(noisy, iterations, ranks);                             // once a released step, alike on all ranks
    };

/// A clipper whose coming steps follow from earlier releases: what a checkpoint holds of it. All of it is public.
template <class C>
concept RestorableClipper = Clipper<C> && requires(C c, const C k, std::vector<double> state) {
  { k.state() } -> std::same_as<std::vector<double>>;
  c.restore(std::move(state)); // before or after bind(); throws invalid_argument when it is another's
};

/// What a rule can be put around: bounds that stand still, and no rule of its own yet.
template <class C>
concept Grouping = BoundedClipper<C> && !LearningClipper<C> && !FollowsSteps<C> && requires(const C k, isize g) {
  { k.rule(g) } -> std::same_as<norm_bound>;
};

} // namespace dpopt
