// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// A base optimizer's options in words, and the one sentence in which it refuses one: optimizer, option, value, what to
/// use instead.
#pragma once

#include "dpopt/core/error.hpp"

#include <cmath>
#include <string>
#include <string_view>

namespace dpopt::detail {

/// "sgd(learning_rate=0.1, maximize=false)".
template <class Optimizer>
[[nodiscard]] std::string options_text(std::string_view name, const Optimizer& optimizer) {
  std::string out(name);
  const char* before = "(";
  optimizer.visit_options([&](std::string_view option, auto value) {
    out += message(before, option, "=", value);
    before = ", ";
  });
  return out + ")";
}

/// Throws invalid_argument unless `holds`.
inline void require_option(bool holds, std::string_view optimizer, std::string_view option, double value,
                           std::string_view use) {
  if (!holds) throw invalid_argument(message(optimizer, ": ", option, " is ", value, "; use ", use));
}

/// Throws invalid_argument unless value is a finite number >= 0 (false for NaN too).
inline void require_not_negative(std::string_view optimizer, std::string_view option, double value) {
  require_option(std::isfinite(value) && value >= 0, optimizer, option, value, "a finite number, 0 or more");
}

/// Throws invalid_argument unless value is in [0, 1), which a running average with bias correction needs.
inline void require_decay_rate(std::string_view optimizer, std::string_view option, double value) {
  require_option(value >= 0 && value < 1, optimizer, option, value, "a number in [0, 1)");
}

} // namespace dpopt::detail
