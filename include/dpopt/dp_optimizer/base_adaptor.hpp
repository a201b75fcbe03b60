// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Lets a lambda or a struct without a role stand where a base optimizer is expected.
#pragma once

#include "dpopt/dp_optimizer/roles.hpp"
#include "dpopt/optimizers/base_optimizer.hpp"

#include <type_traits>

namespace dpopt {

/// F with the role of a base optimizer.
template <class F>
struct as_base_optimizer : F {
  using role = roles::base_optimizer;
};
template <class F>
as_base_optimizer(F) -> as_base_optimizer<F>;

namespace detail {
template <class T, class P>
struct policy_of {
  static_assert(BaseOptimizer<P, T>,
                "dpopt: an argument is neither a policy (a type with `using role = roles::...;`) nor "
                "a base optimizer (at(t).update(...) or a callable taking parameter_update<T>).");
  using type = as_base_optimizer<P>;
};
template <class T, Policy P>
struct policy_of<T, P> {
  using type = P;
};
} // namespace detail

/// P itself when it is a policy, else P as a base optimizer.
template <class T, class P>
using policy_of = typename detail::policy_of<T, P>::type;

} // namespace dpopt
