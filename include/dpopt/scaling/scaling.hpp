// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The Scaling role: the only divisor of a release. Satisfied by expected_batch, unscaled.
///
/// Privacy contract: the divisor depends on public numbers only: the EXPECTED batch size, the number of ranks and the
/// number of logical batches that the trainer declared. The actual batch size is private under Poisson sampling.
#pragma once

#include "dpopt/core/types.hpp"

#include <concepts>
#include <string>

namespace dpopt {

template <class S>
concept Scaling = std::copyable<S> && requires(const S k, isize iterations, int ranks) {
  k.validate();                                             // throws invalid_argument
  { k.divisor(iterations, ranks) } -> std::same_as<double>; // of the noisy sum over all ranks; > 0
  { k.describe() } -> std::same_as<std::string>;
};

/// The sum itself is released.
struct unscaled {
  using role = roles::scaling;
  void validate() const noexcept {}
  [[nodiscard]] double divisor(isize, int) const noexcept { return 1; }
  [[nodiscard]] std::string describe() const { return "unscaled"; }
};

static_assert(Scaling<unscaled>);

} // namespace dpopt
