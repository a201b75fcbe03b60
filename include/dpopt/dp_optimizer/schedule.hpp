// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// When clipping happens: the one difference between the seed's two classes.
#pragma once

#include "dpopt/core/types.hpp"

#include <type_traits>

namespace dpopt {

/// Clip and sum each parameter when its gradient arrives, and start its reduction as soon as its bucket is full: norms,
/// sums and communication overlap with backward. Opacus' DistributedPerLayerOptimizer.
struct as_ready {
  using role = roles::schedule;
  static constexpr bool deferred = false;
};

/// Keep views of the gradients and do everything in pre_step() or step(). Opacus' SimpleDistributedPerLayerOptimizer.
/// What the views point to must stay alive until then (or until the next begin(), which works off the microbatch).
struct at_step {
  using role = roles::schedule;
  static constexpr bool deferred = true;
};

/// Whether clipping is deferred is known when compiling.
template <class S>
concept Schedule = requires { typename std::bool_constant<S::deferred>; };

static_assert(Schedule<as_ready> && Schedule<at_step>);

} // namespace dpopt
