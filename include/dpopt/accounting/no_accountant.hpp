// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// An accountant that knows nothing: for runs without privacy, and for trainers that account elsewhere.
#pragma once

#include "dpopt/accounting/accountant.hpp"
#include "dpopt/core/types.hpp"

#include <limits>
#include <string>

namespace dpopt {

/// Checks events and forgets them.
struct no_accountant {
  using role = roles::accountant;

  /// Nothing to check.
  void validate() const {}

  /// @throw invalid_argument on a field outside its range, as every accountant.
  void record(const gaussian_event& event) { event.validate(); }

  /// Infinity, the only upper bound that holds whatever was released.
  [[nodiscard]] static std::string describe() { return "no_accountant"; }
  [[nodiscard]] double epsilon(double /*delta*/) const { return std::numeric_limits<double>::infinity(); }
};

static_assert(Accountant<no_accountant>);

} // namespace dpopt
