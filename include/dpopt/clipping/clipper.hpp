// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The Clipper role: bounds what one sample can add. A clipper is a grouping (which parameters share a norm) and a rule
/// (norm to factor). Satisfied by flat, per_layer.
///
/// Privacy contract: with factors from rule(g), the sum over samples of all groups' contributions moves by at most
/// sensitivity(relation) in L2 norm between neighbouring data sets. Noise and accountant use that number; nobody
/// multiplies by hand.
#pragma once

#include "dpopt/core/types.hpp"
#include "dpopt/parameters/parameter_view.hpp"

#include <concepts>
#include <span>
#include <string>
#include <type_traits>

namespace dpopt {

template <class C>
concept Clipper = std::movable<C> && requires(C c, const C k, std::span<const parameter_info> parameters, isize p,
                                              isize g, neighbouring relation) {
  c.bind(parameters);                                            // once; throws invalid_argument on bad bounds
  { k.groups() } -> std::same_as<isize>;                         // a group's factors exist when all its norms do
  { k.group_of(p) } -> std::same_as<isize>;                      // in [0, groups())
  { k.rule(g)(1.0) } -> std::same_as<double>;                    // norm to factor; factor x norm is bounded
  requires std::is_trivially_copyable_v<decltype(k.rule(g))>;    // crosses into kernels by value
  { k.sensitivity(relation) } -> std::same_as<double>;           // of the whole sum, all groups
  { k.describe() } -> std::same_as<std::string>;                 // public configuration, compared between ranks
};

/// A clipper whose rule keeps factor x norm of group g at or below bound(g): what decorators build on.
template <class C>
concept BoundedClipper = Clipper<C> && requires(const C k, isize g) {
  { k.bound(g) } -> std::same_as<double>;
};

/// A clipper that learns from noisy scalars of its own, released together with the gradients of every step.
///
/// Privacy contract: one unit of privacy moves each side scalar by at most 1/2 (add/remove); noise of side_std() is added
/// to each, once, and gradient_multiplier(z) is what is left for the gradients so that both together cost no more than
/// one Gaussian mechanism with multiplier z. The accountant is told z.
template <class C>
concept LearningClipper =
    Clipper<C> && requires(C c, const C k, isize g, double norm, std::span<double> side, std::span<const double> noisy,
                           isize iterations, int ranks, double multiplier) {
      { k.side_scalars() } -> std::same_as<isize>;                       // after bind(); fixed
      k.observe(g, norm, side);                                          // a unit with finite norm and weight not 0
      { k.side_std() } -> std::same_as<double>;                          // of the noise on each side scalar
      { k.gradient_multiplier(multiplier) } -> std::same_as<double>;     // throws invalid_argument if nothing is left
      { k.greatest_sensitivity() } -> std::same_as<double>;              // add/remove, over all bounds it may learn
      c.learn(noisy, iterations, ranks);                                 // once a released step, alike on all ranks
    };

} // namespace dpopt
