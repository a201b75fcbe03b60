// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Banded Toeplitz strategies (BandMF; Choquette-Choo et al. 2023, arXiv:2306.08153): C has b bands, and
/// x_t = (z_t - sum_{k=1}^{b-1} c_k x_{t-k}) / c_0. Keeps max(1, b - 1) vectors of the model's size.
///
/// When to use: several passes at a separation of b or more, for which columns do not overlap and the sensitivity is
/// sqrt(participations) times a column's norm. Memory grows with b; blt and banded_inverse need less of it.
#pragma once

#include "dpopt/core/error.hpp"
#include "dpopt/core/platform.hpp"
#include "dpopt/core/types.hpp"
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

/// banded(square_root_coefficients(b)), banded(optimal_banded(plan, b)). State is what the past is kept in:
/// banded<float> halves the memory and is fit for sums in float only.
template <std::floating_point State = double>
class banded {
public:
  using state_type = State;

  /// @param coefficients c_0 .. c_{b-1}, c_0 > 0. Rounded to State here, so that the sensitivity is that of what is
  /// used.
  /// @param unit_columns Divide each column of C by its norm: the last b - 1 columns of a finite run are shorter, which
  ///   wastes noise on the last releases. Needs one participation, or a separation of b or more.
  explicit banded(std::vector<double> coefficients, bool unit_columns = false)
      : c_(detail::as_used_in<State>(std::move(coefficients))), unit_columns_(unit_columns) {}

  void validate(const run_plan& plan) {
    detail::require_coefficients("banded", c_);
    if (unit_columns_ && plan.most_participations() > 1 && plan.separation < c_.size())
      throw invalid_argument(message("banded: unit columns need a separation of the ", c_.size(),
                                     " bands or more, not ", plan.separation));
    rows_ = plan.releases;
  }

  [[nodiscard]] double sensitivity(const run_plan& plan) const {
    constexpr double rounding = 1 + (sizeof(State) < sizeof(double) ? 0x1p-23 : 0x1p-50); // of a column's norm
    if (unit_columns_) return std::sqrt(static_cast<double>(plan.most_participations())) * rounding;
    return toeplitz_sensitivity(c_, plan);
  }

  /// Kept vectors of the model's size.
  [[nodiscard]] isize vectors() const noexcept { return std::max<isize>(1, std::ssize(c_) - 1); }

  /// One number more than asked for: it is fed 1 and then zeros, and so becomes w = C^-1 for row_norm().
  void bind(isize n) {
    count_ = n;
    past_.assign(static_cast<std::size_t>(vectors()), std::vector<State>(static_cast<std::size_t>(n) + 1));
    row_ = 0;
    energy_ = 0;
  }

  DPOPT_NO_CONTRACT void start_row(std::uint64_t /*step*/) {
    DPOPT_NO_CONTRACT_BLOCK
    newest_ = (newest_ + 1) % past_.size();
    State impulse = row_ == 0 ? State(1) : State(0);
    advance(count_, &impulse, 1);
    energy_ += static_cast<double>(impulse) * static_cast<double>(impulse);
    set_term();
    ++row_;
  }

  /// fresh becomes x, which takes the place of the oldest vector.
  DPOPT_NO_CONTRACT void advance(isize first, State* fresh, isize count) {
    DPOPT_NO_CONTRACT_BLOCK
    for (std::size_t k = 1; k < c_.size(); ++k) {
      const auto weight = static_cast<State>(c_[k]);
      const State* const past =
          past_[(newest_ + past_.size() - k) % past_.size()].data() + first; // k = b - 1: the oldest
      for (isize i = 0; i < count; ++i) fresh[i] -= weight * past[i];
    }
    const auto diagonal = static_cast<State>(c_[0]);
    for (isize i = 0; i < count; ++i) fresh[i] /= diagonal;
    std::copy_n(fresh, count, past_[newest_].data() + first);
  }

  [[nodiscard]] std::span<const stored_term> terms() const noexcept { return {&term_, 1}; }
  [[nodiscard]] const State* vector(isize i) const { return past_[static_cast<std::size_t>(i)].data(); }
  [[nodiscard]] double row_norm() const noexcept { return term_.weight * std::sqrt(energy_); }

  template <class F>
  void visit_state(F&& f) {
    f(std::as_writable_bytes(std::span(&row_, 1)));
    f(std::as_writable_bytes(std::span(&newest_, 1)));
    f(std::as_writable_bytes(std::span(&energy_, 1)));
    f(std::as_writable_bytes(std::span(&term_, 1)));
    for (auto& past : past_) f(std::as_writable_bytes(std::span(past)));
  }

  [[nodiscard]] std::string describe() const {
    fingerprint digest;
    for (const double c : c_) digest.add(c);
    return message("banded(", c_.size(), unit_columns_ ? " bands, unit columns" : " bands", ", digest ", digest.value(),
                   ")");
  }

private:
  /// The row's noise is one stored vector, times the norm of its column where columns are divided by it.
  DPOPT_NO_CONTRACT void set_term() {
    DPOPT_NO_CONTRACT_BLOCK
    double squares = 0;
    for (std::size_t k = 0; k < c_.size() && k + row_ < rows_; ++k) squares += c_[k] * c_[k];
    term_ = {static_cast<isize>(newest_), unit_columns_ ? std::sqrt(squares) : 1};
  }

  std::vector<double> c_;
  bool unit_columns_;
  std::uint64_t rows_ = 0;
  isize count_ = 0;
  std::vector<std::vector<State>> past_;
  std::uint64_t row_ = 0; // the next
  std::uint64_t newest_ = 0;
  double energy_ = 0; // of the row of the inverse before its scale
  stored_term term_;
};

banded(std::vector<double>) -> banded<double>;
banded(std::vector<double>, bool) -> banded<double>;

static_assert(StoringStrategy<banded<float>> && StoringStrategy<banded<double>>);

} // namespace dpopt
