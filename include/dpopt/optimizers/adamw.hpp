// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Adam with decoupled weight decay, as torch.optim.AdamW. Formula in adam_step.hpp.
#pragma once

#include "dpopt/core/types.hpp"
#include "dpopt/optimizers/adam_step.hpp"
#include "dpopt/optimizers/base_optimizer.hpp"
#include "dpopt/optimizers/option_check.hpp"

#include <cstddef>
#include <cstdint>
#include <string>
#include <utility>

namespace dpopt {

/// Options of torch.optim.AdamW with its defaults. The learning rate may be changed between steps.
struct adamw {
  using role = roles::base_optimizer;
  static constexpr std::size_t slots = 2; ///< mean and mean square of the gradient

  double learning_rate = 1e-3;
  double beta1 = 0.9;   ///< decay rate of the mean
  double beta2 = 0.999; ///< decay rate of the mean square
  double eps = 1e-8;
  double weight_decay = 1e-2; ///< decoupled: x *= 1 - learning_rate weight_decay
  bool maximize = false;

  using options_of = adamw;
  /// The options, for describe() of the optimizer and for comparison between ranks.
  template <class F>
  constexpr void visit_options(F&& f) const {
    detail::visit_adam_options(*this, std::forward<F>(f));
  }
  [[nodiscard]] std::string describe() const { return detail::options_text("adamw", *this); }

  /// @throw invalid_argument naming the option that is not finite, negative, or a rate outside [0, 1).
  void validate() const { options().validate("adamw"); }

  /// Constants of the step that follows t released ones.
  [[nodiscard]] detail::adam_step<slots> at(std::uint64_t t) const { return {options(), t}; }

private:
  [[nodiscard]] detail::adam_options options() const {
    return {learning_rate, beta1, beta2, eps, weight_decay, true, maximize};
  }
};

static_assert(BaseOptimizer<adamw, float> && BaseOptimizer<adamw, double>);

} // namespace dpopt
