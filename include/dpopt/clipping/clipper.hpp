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

} // namespace dpopt
