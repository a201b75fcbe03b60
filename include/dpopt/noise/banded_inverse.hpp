// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Strategies whose INVERSE is banded (BISR; Kalinin, McKenna, Upadhyay and Lampert 2025, arXiv:2505.12128):
/// x_t = sum_{k=0}^{b-1} w_k z_{t-k}. C itself is dense, and its sensitivity is computed from all its coefficients.
///
/// banded_inverse draws the past z again from the base's stream: b draws a number and nothing kept but b step numbers.
/// stored_banded_inverse keeps b vectors of the model's size: one draw a number. Both add the same noise.
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
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <span>
#include <string>
#include <utility>
#include <vector>

namespace dpopt {

namespace detail {
/// What the two have in common: w, and how much of it the rows so far reach.
class inverse_bands {
public:
  inverse_bands(std::vector<double> w, const char* name) : w_(std::move(w)), name_(name) {}

  void validate(const run_plan& /*plan*/) const { require_coefficients(name_, w_); }

  /// Each weight times a standard deviation is rounded to the type of the sum, in float by up to 2^-24 of it. What is
  /// then added belongs to W + E, with |E| <= 2^-24 |W|, whose strategy (I + C E)^-1 C has at most sens(C) / (1 - |C
  /// E|): next to nothing for the inverse square root (1e-6 for 32 bands), but much for weights that sum up to nearly
  /// 0. Infinite where rounding could undo the strategy.
  [[nodiscard]] DPOPT_NO_CONTRACT double sensitivity(const run_plan& plan) const {
    DPOPT_NO_CONTRACT_BLOCK
    const std::vector<double> c = inverse_coefficients(w_, static_cast<isize>(plan.releases));
    const double moved = 0x1.01p-24 * absolute_sum(c) * absolute_sum(w_);
    if (!(moved < 0.5)) return std::numeric_limits<double>::infinity();
    return toeplitz_sensitivity(c, plan) / (1 - moved);
  }

  [[nodiscard]] std::string describe() const {
    fingerprint digest;
    for (const double w : w_) digest.add(w);
    return message(name_, "(", w_.size(), " bands, digest ", digest.value(), ")");
  }

protected:
  [[nodiscard]] static double absolute_sum(std::span<const double> x) noexcept {
    double sum = 0;
    for (const double v : x) sum += std::abs(v);
    return sum;
  }

  template <class Term>
  [[nodiscard]] DPOPT_NO_CONTRACT static double norm(std::span<const Term> terms) noexcept {
    DPOPT_NO_CONTRACT_BLOCK
    double squares = 0;
    for (const Term& term : terms) squares += term.weight * term.weight;
    return std::sqrt(squares);
  }

  std::vector<double> w_;
  const char* name_;
};
} // namespace detail

/// banded_inverse(inverse_square_root_coefficients(b)).
class banded_inverse : public detail::inverse_bands {
public:
  /// @param w First b coefficients of C^-1, the others being 0; w_0 > 0.
  explicit banded_inverse(std::vector<double> w) : inverse_bands(std::move(w), "banded_inverse"), terms_(w_.size()) {}

  void start_row(std::uint64_t step) {
    if (!terms_.empty()) std::shift_right(terms_.begin(), terms_.end(), 1);
    reached_ = std::min<std::uint64_t>(reached_ + 1, terms_.size());
    for (std::size_t k = 0; k < terms_.size(); ++k) terms_[k].weight = w_[k];
    terms_.front().step = step;
  }

  [[nodiscard]] std::span<const stream_term> terms() const noexcept { return std::span(terms_).first(reached_); }
  [[nodiscard]] double row_norm() const noexcept { return norm(terms()); }

  template <class F>
  void visit_state(F&& f) {
    f(std::as_writable_bytes(std::span(&reached_, 1)));
    f(std::as_writable_bytes(std::span(terms_)));
  }

private:
  std::vector<stream_term> terms_; // newest row first
  std::uint64_t reached_ = 0;      // of them exist
};

/// The same noise from a ring of the last b z. State as in banded.
template <std::floating_point State = double>
class stored_banded_inverse : public detail::inverse_bands {
public:
  using state_type = State;

  explicit stored_banded_inverse(std::vector<double> w)
      : inverse_bands(std::move(w), "stored_banded_inverse"), terms_(w_.size()) {}

  /// Kept vectors of the model's size.
  [[nodiscard]] isize vectors() const noexcept { return std::ssize(w_); }

  void bind(isize n) {
    past_.assign(w_.size(), std::vector<State>(static_cast<std::size_t>(n)));
    row_ = 0;
  }

  void start_row(std::uint64_t /*step*/) {
    for (std::size_t k = 0; k < w_.size(); ++k)
      terms_[k] = {static_cast<isize>((row_ + w_.size() - k) % w_.size()), w_[k]};
    ++row_;
  }

  void advance(isize first, const State* fresh, isize count) {
    std::copy_n(fresh, count, past_[static_cast<std::size_t>(terms_.front().vector)].data() + first);
  }

  [[nodiscard]] std::span<const stored_term> terms() const noexcept {
    return std::span(terms_).first(std::min<std::uint64_t>(row_, terms_.size()));
  }
  [[nodiscard]] const State* vector(isize i) const { return past_[static_cast<std::size_t>(i)].data(); }
  [[nodiscard]] double row_norm() const noexcept { return norm(terms()); }

  template <class F>
  void visit_state(F&& f) {
    f(std::as_writable_bytes(std::span(&row_, 1)));
    f(std::as_writable_bytes(std::span(terms_)));
    for (auto& past : past_) f(std::as_writable_bytes(std::span(past)));
  }

private:
  std::vector<std::vector<State>> past_;
  std::vector<stored_term> terms_; // newest row first
  std::uint64_t row_ = 0;          // rows so far
};

stored_banded_inverse(std::vector<double>) -> stored_banded_inverse<double>;

static_assert(RegeneratingStrategy<banded_inverse>);
static_assert(StoringStrategy<stored_banded_inverse<float>> && StoringStrategy<stored_banded_inverse<double>>);

} // namespace dpopt
