// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Adam with L2 weight decay, as torch.optim.Adam (amsgrad=False). Formula in adam_step.hpp.
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

/// Options of torch.optim.Adam with its defaults. The learning rate may be changed between steps.
struct adam {
  using role = roles::base_optimizer;
  static constexpr std::size_t slots = 2; ///< mean and mean square of the gradient

  double learning_rate = 1e-3;
  double beta1 = 0.9;   ///< decay rate of the mean
  double beta2 = 0.999; ///< decay rate of the mean square
  double eps = 1e-8;
  double weight_decay = 0; ///< L2: added to the gradient
  bool maximize = false;

  using options_of = adam;
  /// The options, for describe() of the optimizer and for comparison between ranks.
  template <class F>
  constexpr void visit_options(F&& f) const {
    detail::visit_adam_options(*this, std::forward<F>(f));
  }
  [[nodiscard]] std::string describe() const { return detail::options_text("adam", *this); }

  /// @throw invalid_argument naming the option that is not finite, negative, or a rate outside [0, 1).
  void validate() const { options().validate("adam"); }

  /// Constants of the step that follows t released ones.
  [[nodiscard]] detail::adam_step<slots> at(std::uint64_t t) const { return {options(), t}; }

private:
  [[nodiscard]] detail::adam_options options() const {
    return {learning_rate, beta1, beta2, eps, weight_decay, false, maximize};
  }
};

static_assert(BaseOptimizer<adam, float> && BaseOptimizer<adam, double>);

} // namespace dpopt
