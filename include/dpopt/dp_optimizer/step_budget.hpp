// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The noise of one step, fixed when it begins, and what the accountant is told for it before anything is released.
#pragma once

#include "dpopt/accounting/accountant.hpp"
#include "dpopt/core/error.hpp"
#include "dpopt/core/types.hpp"
#include "dpopt/dp_optimizer/step_noise.hpp"
#include "dpopt/noise/noise_mechanism.hpp"

namespace dpopt {

/// Multiplier and standard deviation of the step that is accumulating or was released last. Sensitivities are the
/// clipper's for the relation: nobody multiplies by hand.
class step_budget {
public:
  /// Fixes the noise of the step that begins now, before a bucket can leave with it. `unit` is that of a sum of type
  /// Sum. @throw invalid_argument when the clipper's bounds and the multiplier give no usable standard deviation.
  template <class Sum, class N, class C>
  void fix(const N& noise, const C& clipper, neighbouring relation, double unit) {
    multiplier_ = noise.multiplier();
    const double bound = clipper.sensitivity(relation);
    noise_std_ = detail::gradient_multiplier(noise, clipper) * bound;
    detail::require_usable_noise<Sum>(noise, multiplier_, bound, noise_std_, unit);
  }

  /// @throw state_error when somebody changed the noise since.
  template <class N, class C>
  void require_same(const N& noise, const C& clipper, neighbouring relation) const {
    if (noise.multiplier() == multiplier_ &&
        detail::gradient_multiplier(noise, clipper) * clipper.sensitivity(relation) == noise_std_)
      return;
    throw state_error("the noise multiplier changed between begin() and step(); change it between steps");
  }

  /// Tells the accountant, before anything is released. Correlated noise is one mechanism over the whole run: it is
  /// told once, at the first step, and refuses batches that were sampled, since their amplification is unproven here.
  template <Accountant A, class N>
  void charge(A& accountant, const N& noise, double rate, neighbouring relation) {
    if constexpr (CorrelatedNoise<N>) {
      if (rate != 1)
        throw state_error(
            message("correlated noise claims no amplification by sampling, but this step's token has rate ", rate,
                    "; choose batches as the run_plan says and pass no token"));
      if (run_charged_) return;
      accountant.record({noise.run_multiplier(), 1, 1, relation});
      run_charged_ = true;
    } else {
      accountant.record({multiplier_, rate, 1, relation, noise_kind_of<N>});
    }
  }

  [[nodiscard]] double multiplier() const noexcept { return multiplier_; }
  /// On the sum, of the numbers that correlated noise is made of.
  [[nodiscard]] double noise_std() const noexcept { return noise_std_; }
  /// Whether the accountant was told of the whole run.
  [[nodiscard]] bool run_charged() const noexcept { return run_charged_; }
  /// Goes on where another run stood.
  void restore(bool run_charged) noexcept { run_charged_ = run_charged; }

private:
  double multiplier_ = 0;
  double noise_std_ = 0;
  bool run_charged_ = false;
};

} // namespace dpopt
