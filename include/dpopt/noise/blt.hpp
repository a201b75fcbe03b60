// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Buffered linear Toeplitz strategies (McMahan, Xu and Zhang 2024, arXiv:2408.08868, algorithm 3):
/// x_t = z_t - sum_j scale_j s_j, then s_j <- decay_j s_j + x_t. Keeps a vector of the model's size a buffer, and x.
///
/// When to use: many releases; three buffers come within a few percent of the best strategy for thousands of them.
#pragma once

#include "dpopt/core/error.hpp"
#include "dpopt/core/platform.hpp"
#include "dpopt/core/types.hpp"
#include "dpopt/noise/blt_parameters.hpp"
#include "dpopt/noise/run_plan.hpp"
#include "dpopt/noise/strategy.hpp"
#include "dpopt/noise/toeplitz.hpp"
#include "dpopt/parameters/fingerprint.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace dpopt {

/// blt(optimal_blt(plan, 3)). State is what buffers are kept in: blt<float> halves the memory, for sums in float only.
template <std::floating_point State = double>
class blt {
public:
  using state_type = State;

  /// Rounded to State here, so that the sensitivity is that of what is used: the last bit of a decay near 1 counts as
  /// often as there are releases.
  explicit blt(blt_parameters parameters)
      : p_{detail::as_used_in<State>(std::move(parameters.decay)),
           detail::as_used_in<State>(std::move(parameters.scale))} {}

  void validate(const run_plan& /*plan*/) const { p_.validate(); }

  [[nodiscard]] double sensitivity(const run_plan& plan) const {
    return toeplitz_sensitivity(blt_coefficients(p_, static_cast<isize>(plan.releases)), plan);
  }

  /// Kept vectors of the model's size.
  [[nodiscard]] isize vectors() const noexcept { return std::ssize(p_.decay) + 1; }

  /// One number more than asked for, fed 1 and then zeros, as in banded.
  void bind(isize n) {
    count_ = n;
    kept_.assign(static_cast<std::size_t>(vectors()), std::vector<State>(static_cast<std::size_t>(n) + 1));
    row_ = 0;
    energy_ = 0;
  }

  DPOPT_NO_CONTRACT void start_row(std::uint64_t /*step*/) {
    DPOPT_NO_CONTRACT_BLOCK
    State impulse = row_ == 0 ? State(1) : State(0);
    advance(count_, &impulse, 1);
    energy_ += static_cast<double>(impulse) * static_cast<double>(impulse);
    ++row_;
  }

  DPOPT_NO_CONTRACT void advance(isize first, State* fresh, isize count) {
    DPOPT_NO_CONTRACT_BLOCK
    for (std::size_t j = 0; j < p_.decay.size(); ++j) {
      const auto scale = static_cast<State>(p_.scale[j]);
      const State* const buffer = kept_[j].data() + first;
      for (isize i = 0; i < count; ++i) fresh[i] -= scale * buffer[i];
    }
    for (std::size_t j = 0; j < p_.decay.size(); ++j) {
      const auto decay = static_cast<State>(p_.decay[j]);
      State* const buffer = kept_[j].data() + first;
      for (isize i = 0; i < count; ++i) buffer[i] = decay * buffer[i] + fresh[i];
    }
    std::copy_n(fresh, count, kept_.back().data() + first);
  }

  [[nodiscard]] std::span<const stored_term> terms() const noexcept { return {&term_, 1}; }
  [[nodiscard]] const State* vector(isize /*i*/) const { return kept_.back().data(); }
  [[nodiscard]] double row_norm() const noexcept { return std::sqrt(energy_); }

  template <class F>
  void visit_state(F&& f) {
    f(std::as_writable_bytes(std::span(&row_, 1)));
    f(std::as_writable_bytes(std::span(&energy_, 1)));
    for (auto& kept : kept_) f(std::as_writable_bytes(std::span(kept)));
  }

  [[nodiscard]] std::string describe() const {
    fingerprint digest;
    for (const double d : p_.decay) digest.add(d);
    for (const double s : p_.scale) digest.add(s);
    return message("blt(", p_.decay.size(), " buffers, digest ", digest.value(), ")");
  }

private:
  blt_parameters p_;
  isize count_ = 0;
  std::vector<std::vector<State>> kept_; // the buffers, then x
  std::uint64_t row_ = 0;
  double energy_ = 0; // sum of w_k^2 so far
  stored_term term_{0, 1};
};

blt(blt_parameters) -> blt<double>;

static_assert(StoringStrategy<blt<float>> && StoringStrategy<blt<double>>);

} // namespace dpopt
