// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Order-free composition: each policy names its role, the rest are defaults.
#pragma once

#include "dpopt/core/types.hpp"

#include <tuple>
#include <type_traits>
#include <utility>

namespace dpopt {

/// A type that says which place in the step it takes.
template <class P>
concept Policy = requires { typename P::role; };

/// How many of the policies P play the role R.
template <class R, Policy... P>
inline constexpr int players = (0 + ... + (std::is_same_v<typename P::role, R> ? 1 : 0));

namespace detail {
template <class R, class Default, class... P>
struct policy_for {
  using type = Default;
};
template <class R, class Default, class First, class... Rest>
struct policy_for<R, Default, First, Rest...> {
  using type = typename std::conditional_t<std::is_same_v<typename First::role, R>, std::type_identity<First>,
                                           policy_for<R, Default, Rest...>>::type;
};
} // namespace detail

/// The policy among P that plays R, or Default.
template <class R, class Default, Policy... P>
using policy_for = typename detail::policy_for<R, Default, P...>::type;

/// The value of type Wanted among the arguments, moved out, or a default constructed one.
template <class Wanted, class... P>
[[nodiscard]] Wanted take_policy(std::tuple<P...>& given) {
  if constexpr ((std::is_same_v<Wanted, P> || ...)) return std::move(std::get<Wanted>(given));
  else {
    static_assert(std::is_default_constructible_v<Wanted>,
                  "dpopt: a policy that has no default (such as a communicator over MPI) was not passed.");
    return Wanted{};
  }
}

} // namespace dpopt
