// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Correlated noise (the DP-FTRL family): a decorator of an addressable Gaussian mechanism by a strategy.
///
/// The release of row t gets x_t = (C^-1 z)_t, where z is the base's independent noise and C, lower triangular, the
/// strategy: part of a release's noise is taken back by later ones, so that sums of releases (the parameters) carry
/// less of it. All releases together are ONE Gaussian mechanism on C g (Denisov, McMahan, Rush, Smith and Thakurta
/// 2022, arXiv:2202.08312: also when a gradient depends on what was released before), with the sensitivity of C under
/// the plan.
///
/// - The base's noise_multiplier is that of the whole run: std of z over the sensitivity of C g. The accountant is told
///   it once, at the first release, as one event without sampling.
/// - What is kept is in units of z, never of the gradients: add() scales by the std of the moment. With bounds that
///   change between releases (from public outputs), g_t over its bound is what the mechanism protects.
/// - Rows and numbers of the stream are counted apart. A step that fails before its reduction was agreed releases
///   nothing: it takes a number of the stream and no row. From start_row() on the row is taken, whatever happens then.
/// - Every rank that went through the same rows adds the same noise; none is ever added before the reduction.
#pragma once

#include "dpopt/core/error.hpp"
#include "dpopt/core/platform.hpp"
#include "dpopt/core/schedules.hpp"
#include "dpopt/core/types.hpp"
#include "dpopt/noise/multiplier.hpp"
#include "dpopt/noise/noise_mechanism.hpp"
#include "dpopt/noise/run_plan.hpp"
#include "dpopt/noise/strategy.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace dpopt {

/// correlated(counter_gaussian{4.0}, banded(square_root_coefficients(16)), run_plan::cyclic(2000, 200)). Strategies:
/// banded, banded_inverse, stored_banded_inverse, blt, tree, honaker_tree.
template <class Base, class Strategy>
class correlated {
  static_assert(AddressableNoise<Base> && (NoiseMechanism<Base, float> || NoiseMechanism<Base, double>),
                "dpopt: correlated noise is made of independent real numbers at addresses; use counter_gaussian or "
                "secure_gaussian inside.");
  static_assert(
      !FollowsSteps<Base> && !CorrelatedNoise<Base>,
      "dpopt: correlated noise is one mechanism over the whole run: no schedule and no second correlation inside.");
  static_assert(
      RegeneratingStrategy<Strategy> || StoringStrategy<Strategy>,
      "dpopt: the strategy satisfies neither RegeneratingStrategy nor StoringStrategy (see noise/strategy.hpp).");

public:
  using role = roles::noise;
  static constexpr bool addressable = true; ///< in the row that is open

  correlated(Base base, Strategy strategy, run_plan plan)
      : base_(std::move(base)), strategy_(std::move(strategy)), plan_(plan) {}

  /// Std of z over the sensitivity of one release: what noise of one release is scaled by. After validate().
  [[nodiscard]] double multiplier() const noexcept { return base_.multiplier() * sensitivity_; }
  /// Std of z over the sensitivity of the whole run: what the accountant is told.
  [[nodiscard]] double run_multiplier() const noexcept { return base_.multiplier(); }
  /// Of the strategy under the plan, for records of norm 1 a release. After validate().
  [[nodiscard]] double strategy_sensitivity() const noexcept { return sensitivity_; }
  [[nodiscard]] const run_plan& plan() const noexcept { return plan_; }
  /// Releases so far.
  [[nodiscard]] std::uint64_t rows() const noexcept { return rows_; }
  /// Norm of the open row of C^-1: std of a number that add() adds, over std_in_units.
  [[nodiscard]] double row_norm() const noexcept { return strategy_.row_norm(); }

  /// @throw invalid_argument as the base, the plan and the strategy do.
  void validate() {
    base_.validate();
    plan_.validate();
    strategy_.validate(plan_);
    sensitivity_ = strategy_.sensitivity(plan_);
    if (!(std::isfinite(sensitivity_) && sensitivity_ > 0))
      throw invalid_argument(message(strategy_.describe(), ": the sensitivity over the run is ", sensitivity_,
                                     "; use coefficients that do not grow over the releases, and weights of an inverse "
                                     "that do not sum up to nearly 0"));
  }

  /// Holds no secret.
  [[nodiscard]] std::string describe() const {
    std::string inside = "noise";
    if constexpr (requires { base_.describe(); }) inside = base_.describe();
    return message("correlated(", inside, ", multiplier of the run ", run_multiplier(), ", ", strategy_.describe(),
                   ", ", plan_.describe(), ")");
  }

  /// @param sizes Elements of each parameter. @param side_scalars Numbers of purpose side_scalars, parameter 0.
  void bind(std::span<const isize> sizes, isize side_scalars) {
    starts_.assign(1, 0);
    largest_ = side_scalars;
    for (const isize size : sizes) {
      starts_.push_back(starts_.back() + size);
      largest_ = std::max(largest_, size);
    }
    starts_.push_back(starts_.back() + side_scalars);
    if constexpr (StoringStrategy<Strategy>) strategy_.bind(starts_.back());
  }

  /// Whether start_row(step) would succeed. Local; the same answer on every rank.
  /// @throw state_error When the declared releases are used up, or numbers of this step were drawn before.
  /// @throw randomness_error When the base's stream is exhausted.
  void require_row(std::uint64_t step) {
    require_state();
    if (rows_ >= plan_.releases)
      throw state_error(message("correlated noise: the run was declared with ", plan_.releases,
                                " releases and all were made; declare more in its run_plan and start anew"));
    if (rows_ > 0 && step <= step_)
      throw state_error(message("correlated noise: step ", step, " does not come after step ", step_));
    if (largest_ == 0) return;
    number last{};
    const std::size_t parameters = std::max<std::size_t>(1, starts_.size() - 2);
    base_.add({purpose::gradient, 0, step, static_cast<std::uint32_t>(parameters - 1),
               static_cast<std::uint64_t>(largest_ - 1)},
              1.0, &last, 1);
  }

  /// Opens the next row: until the next call, add() adds its noise. Fresh numbers come from the base at `step`.
  /// @throw as require_row() does, with the row not taken. When the base fails within the row, the row is taken and the
  ///   mechanism of no more use.
  void start_row(std::uint64_t step) {
    require_row(step);
    ready_ = false; // for good, if the base throws: the past is then lost
    strategy_.start_row(step);
    step_ = step;
    ++rows_;
    if constexpr (StoringStrategy<Strategy>) {
      for (std::size_t p = 0; p + 2 < starts_.size(); ++p)
        draw({purpose::gradient, 0, step, static_cast<std::uint32_t>(p), 0}, p);
      draw({purpose::side_scalars, 0, step, 0, 0}, starts_.size() - 2);
    }
    ready_ = true;
  }

  /// x[i] += std_in_units x (C^-1 z)[row][where.element + i], any number of times, in any split. Local.
  /// @throw state_error Unless where.step is the step of the open row. @throw invalid_argument For an unknown address.
  template <std::floating_point V>
    requires NoiseMechanism<Base, V> && NumbersFor<Strategy, V>
  DPOPT_NO_CONTRACT void add(const address& where, double std_in_units, V* x, isize count) {
    DPOPT_NO_CONTRACT_BLOCK
    if (count <= 0) return;
    const isize first = place_of(where, count);
    if constexpr (RegeneratingStrategy<Strategy>) {
      address past = where;
      for (const stream_term& term : strategy_.terms()) {
        past.step = term.step;
        base_.add(past, std_in_units * term.weight, x, count);
      }
    } else {
      using state_type = typename Strategy::state_type;
      for (const stored_term& term : strategy_.terms()) {
        const auto scale = static_cast<state_type>(std_in_units * term.weight);
        const state_type* const kept = strategy_.vector(term.vector) + first;
        for (isize i = 0; i < count; ++i) x[i] += static_cast<V>(scale * kept[i]);
      }
    }
  }

  /// Calls f(std::span<std::byte>) for each piece of what the next rows depend on, besides the base's secret: enough to
  /// continue after a copy into an object that was constructed, validated and bound alike. Holds noise: keep it secret.
  template <class F>
  void visit_state(F&& f) {
    f(std::as_writable_bytes(std::span(&rows_, 1)));
    f(std::as_writable_bytes(std::span(&step_, 1)));
    strategy_.visit_state(f);
  }

  void draw_secret()
    requires SharesSecret<Base>
  {
    base_.draw_secret();
  }
  void renew_secret()
    requires requires(Base b) { b.renew_secret(); }
  {
    base_.renew_secret();
  }
  [[nodiscard]] std::span<std::byte> secret() noexcept
    requires SharesSecret<Base>
  {
    return base_.secret();
  }
  [[nodiscard]] bool reproducible() const noexcept
    requires requires(const Base b) { b.reproducible(); }
  {
    return base_.reproducible();
  }

private:
  using number = std::conditional_t<NoiseMechanism<Base, double>, double, float>;

  void require_state() const {
    if (starts_.empty()) throw state_error("correlated noise was asked for before bind()");
    if (!ready_) throw state_error("correlated noise: an earlier row could not be completed; start a new run");
  }

  /// Position of the address among all numbers of a row.
  [[nodiscard]] isize place_of(const address& where, isize count) const {
    require_state();
    if (rows_ == 0 || where.step != step_)
      throw state_error(
          message("correlated noise was asked for step ", where.step, ", which is not that of the open row"));
    const bool side = where.what == purpose::side_scalars;
    const std::size_t parameters = starts_.size() - 2;
    const bool known = side ? where.parameter == 0 : where.what == purpose::gradient && where.parameter < parameters;
    const std::size_t at = side ? parameters : where.parameter;
    if (!known || where.lane != 0 ||
        where.element + static_cast<std::uint64_t>(count) > static_cast<std::uint64_t>(starts_[at + 1] - starts_[at]))
      throw invalid_argument(message("correlated noise: parameter ", where.parameter, ", lane ", where.lane,
                                     ", elements ", where.element, " to ",
                                     where.element + static_cast<std::uint64_t>(count),
                                     " are not among the bound ones, or not for gradients after the reduction"));
    return starts_[at] + static_cast<isize>(where.element);
  }

  /// The fresh numbers of one parameter, handed to the strategy.
  void draw(address where, std::size_t at)
    requires StoringStrategy<Strategy>
  {
    constexpr isize size = 1024; // stays in the first-level cache beside the same stretch of what is stored
    std::array<typename Strategy::state_type, size> fresh;
    for (isize first = starts_[at]; first < starts_[at + 1]; first += size) {
      const isize count = std::min(size, starts_[at + 1] - first);
      fresh.fill(0);
      where.element = static_cast<std::uint64_t>(first - starts_[at]);
      base_.add(where, 1.0, fresh.data(), count);
      strategy_.advance(first, fresh.data(), count);
    }
  }

  Base base_;
  Strategy strategy_;
  run_plan plan_;
  double sensitivity_ = multiplier_not_given; // known after validate()
  std::vector<isize> starts_;                 // of each parameter, of the side scalars, and the end
  isize largest_ = 0;
  std::uint64_t rows_ = 0;
  std::uint64_t step_ = 0; // of the open row
  bool ready_ = true;
};

} // namespace dpopt
