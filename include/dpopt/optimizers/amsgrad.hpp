// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Adam divided by the largest mean square so far, as torch.optim.Adam(amsgrad=True), or with `decoupled` as
/// torch.optim.AdamW(amsgrad=True). Formula in adam_step.hpp.
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

/// Options of torch.optim.Adam(amsgrad=True) with its defaults. The learning rate may be changed between steps.
struct amsgrad {
  using role = roles::base_optimizer;
  static constexpr std::size_t slots = 3; ///< mean, mean square and largest mean square of the gradient

  double learning_rate = 1e-3;
  double beta1 = 0.9;   ///< decay rate of the mean
  double beta2 = 0.999; ///< decay rate of the mean square
  double eps = 1e-8;
  double weight_decay = 0;
  bool decoupled = false; ///< weight decay as in adamw and not as an L2 term
  bool maximize = false;

  using options_of = amsgrad;
  /// The options, for describe() of the optimizer and for comparison between ranks.
  template <class F>
  constexpr void visit_options(F&& f) const {
    detail::visit_adam_options(*this, std::forward<F>(f));
  }
  [[nodiscard]] std::string describe() const { return detail::options_text("amsgrad", *this); }

  /// @throw invalid_argument naming the option that is not finite, negative, or a rate outside [0, 1).
  void validate() const { options().validate("amsgrad"); }

  /// Constants of the step that follows t released ones.
  [[nodiscard]] detail::adam_step<slots> at(std::uint64_t t) const { return {options(), t}; }

private:
  [[nodiscard]] detail::adam_options options() const {
    return {learning_rate, beta1, beta2, eps, weight_decay, decoupled, maximize};
  }
};

static_assert(BaseOptimizer<amsgrad, float> && BaseOptimizer<amsgrad, double>);

} // namespace dpopt
