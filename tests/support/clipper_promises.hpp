// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// What every clipper promises, tried by brute force on the sum that it leads to. Each check throws std::runtime_error
/// when a promise is broken. Clippers are handed over behind one type, so that the summing code compiles once.
#pragma once

#include "dpopt/accumulation/running_sum.hpp"
#include "dpopt/clipping/clipper.hpp"
#include "dpopt/core/error.hpp"
#include "dpopt/dp_optimizer/contributions.hpp"
#include "dpopt/gradients/materialized.hpp"

#include <array>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <memory>
#include <random>
#include <span>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace dpopt::test {

/// Any BoundedClipper.
class any_clipper {
  struct held {
    virtual ~held() = default;
    virtual void bind(std::span<const parameter_info> p) = 0;
    [[nodiscard]] virtual isize groups() const = 0;
    [[nodiscard]] virtual isize group_of(isize p) const = 0;
    [[nodiscard]] virtual double bound(isize g) const = 0;
    [[nodiscard]] virtual double factor(isize g, double norm) const = 0;
    [[nodiscard]] virtual double sensitivity(neighbouring r) const = 0;
    [[nodiscard]] virtual std::string describe() const = 0;
  };
  template <BoundedClipper C>
  struct holding final : held {
    C clipper;
    explicit holding(C c) : clipper(std::move(c)) {}
    void bind(std::span<const parameter_info> p) override { clipper.bind(p); }
    [[nodiscard]] isize groups() const override { return clipper.groups(); }
    [[nodiscard]] isize group_of(isize p) const override { return clipper.group_of(p); }
    [[nodiscard]] double bound(isize g) const override { return clipper.bound(g); }
    [[nodiscard]] double factor(isize g, double norm) const override { return clipper.rule(g)(norm); }
    [[nodiscard]] double sensitivity(neighbouring r) const override { return clipper.sensitivity(r); }
    [[nodiscard]] std::string describe() const override { return clipper.describe(); }
  };

public:
  using role = roles::clipper;
  struct erased_rule {
    const held* clipper = nullptr;
    isize group = 0;
    double operator()(double norm) const { return clipper->factor(group, norm); }
  };

  template <class C>
    requires(!std::same_as<C, any_clipper>) && BoundedClipper<C> // not asked about itself, which Clang refuses
  explicit any_clipper(C clipper) : held_(std::make_shared<holding<C>>(std::move(clipper))) {}
  void bind(std::span<const parameter_info> p) { held_->bind(p); }
  [[nodiscard]] isize groups() const { return held_->groups(); }
  [[nodiscard]] isize group_of(isize p) const { return held_->group_of(p); }
  [[nodiscard]] double bound(isize g) const { return held_->bound(g); }
  [[nodiscard]] erased_rule rule(isize g) const { return {held_.get(), g}; }
  [[nodiscard]] double sensitivity(neighbouring r) const { return held_->sensitivity(r); }
  [[nodiscard]] std::string describe() const { return held_->describe(); }

private:
  std::shared_ptr<held> held_;
};
static_assert(BoundedClipper<any_clipper>);

inline const std::vector<parameter_info>& promise_parameters() {
  static const std::vector<parameter_info> promised = {
      {"conv.weight", 4}, {"conv.bias", 2}, {"fc.weight", 3}, {"scale", 1}};
  return promised;
}
inline constexpr std::array<std::size_t, 5> promise_offsets{0, 4, 6, 9, 10};

/// All gradients of one unit, one parameter behind the other.
using promise_unit = std::array<double, 10>;

template <class... Parts>
void promise(bool holds, const Parts&... what) {
  if (!holds) throw std::runtime_error(message(what...));
}

/// The clipped sum over units.
inline std::vector<double> clipped_sum(const any_clipper& clipper, const std::vector<promise_unit>& units) {
  contributions<any_clipper, running_sum<double>> sums(clipper, {});
  sums.bind(promise_parameters(), {0, 4, 6, 9});
  sums.begin({.samples = std::ssize(units)});
  std::array<std::vector<double>, 4> rows;
  for (std::size_t p = 0; p < 4; ++p) {
    for (const promise_unit& u : units)
      rows[p].insert(rows[p].end(), u.begin() + static_cast<std::ptrdiff_t>(promise_offsets[p]),
                     u.begin() + static_cast<std::ptrdiff_t>(promise_offsets[p + 1]));
    sums.add(static_cast<isize>(p),
             materialized<double>(rows[p].data(), std::ssize(units), promise_parameters()[p].size), [](isize) {});
  }
  return {sums.sum().data(), sums.sum().data() + promise_offsets[4]};
}

inline double distance_between(const std::vector<double>& a, const std::vector<double>& b) {
  long double squares = 0;
  for (std::size_t i = 0; i < a.size(); ++i)
    squares += std::pow(static_cast<long double>(a[i]) - static_cast<long double>(b[i]), 2);
  return static_cast<double>(std::sqrt(squares));
}

/// Factors are numbers >= 0, factor x norm stays within bound(g) for all norms, and a norm that is no number is
/// dropped.
inline void factors_are_bounded(const any_clipper& clipper) {
  for (isize g = 0; g < clipper.groups(); ++g) {
    const auto rule = clipper.rule(g);
    for (double norm = 1e-30; norm < 2e30; norm *= 1.21) {
      const double factor = rule(norm);
      promise(factor >= 0 && std::isfinite(factor), clipper.describe(), ": factor ", factor, " at norm ", norm);
      const long double product = static_cast<long double>(factor) * static_cast<long double>(norm);
      promise(product <=
                  static_cast<long double>(clipper.bound(g)) * (1 + 4e-16L), // sources multiply by rounded_down(factor)
              clipper.describe(), ": factor ", factor, " x norm ", norm, " exceeds ", clipper.bound(g));
    }
    promise(std::isfinite(rule(0)) && rule(0) >= 0, clipper.describe(), ": factor ", rule(0), " of a zero gradient");
    promise(rule(std::numeric_limits<double>::infinity()) == 0, clipper.describe(), ": an infinite norm is kept");
    promise(rule(std::numeric_limits<double>::quiet_NaN()) == 0, clipper.describe(), ": NaN is kept");
  }
}

/// The sensitivity is that of the bounds, for every relation.
inline void sensitivity_follows_bounds(const any_clipper& clipper) {
  double squares = 0;
  for (isize g = 0; g < clipper.groups(); ++g) squares += clipper.bound(g) * clipper.bound(g);
  const double once = clipper.sensitivity(neighbouring::add_remove);
  promise(std::abs(once - std::sqrt(squares)) <= 1e-14 * once, clipper.describe(), ": sensitivity ", once,
          " of bounds ", std::sqrt(squares));
  promise(clipper.sensitivity(neighbouring::zero_out) == once, clipper.describe(), ": zero_out is add_remove");
  promise(clipper.sensitivity(neighbouring::replace_one) == 2 * once, clipper.describe(),
          ": replace_one is twice that");
}

inline promise_unit opposite(promise_unit u) {
  for (double& x : u) x = -x;
  return u;
}

/// In random batches no unit removed, zeroed or replaced moves the sum by more than the sensitivity.
inline void units_move_within(const any_clipper& clipper, std::uint64_t seed) {
  std::mt19937_64 random(seed);
  const auto uniform = [&](double low, double high) {
    return low + (high - low) * static_cast<double>(random() >> 11) * 0x1p-53;
  };
  const auto any_unit = [&](double most) {
    promise_unit u{};
    for (std::size_t p = 0; p < 4; ++p) {
      const double scale = std::pow(10.0, uniform(-most, most));
      for (std::size_t i = promise_offsets[p]; i < promise_offsets[p + 1]; ++i) u[i] = scale * uniform(-1, 1);
    }
    return u;
  };
  for (int round = 0; round < 4; ++round) {
    std::vector<promise_unit> units;
    for (int i = 0; i < 5; ++i) units.push_back(any_unit(1.5));
    units.push_back(any_unit(30));
    units.push_back(promise_unit{});
    const auto whole = clipped_sum(clipper, units);
    const promise_unit other = any_unit(3);
    const double slack = 1 + 1e-13; // of a sum in double over a few units
    for (std::size_t i = 0; i < units.size(); ++i) {
      std::vector<promise_unit> changed = units;
      changed.erase(changed.begin() + static_cast<std::ptrdiff_t>(i));
      const double removed = distance_between(whole, clipped_sum(clipper, changed));
      promise(removed <= slack * clipper.sensitivity(neighbouring::add_remove), clipper.describe(),
              ": removing moves by ", removed);
      promise(removed <= slack * clipper.sensitivity(neighbouring::zero_out), clipper.describe(), ": zeroing moves by ",
              removed);
      for (const promise_unit& with : {opposite(units[i]), other, promise_unit{}}) {
        changed = units;
        changed[i] = with;
        const double replaced = distance_between(whole, clipped_sum(clipper, changed));
        promise(replaced <= slack * clipper.sensitivity(neighbouring::replace_one), clipper.describe(),
                ": replacing moves by ", replaced);
      }
    }
  }
}

/// The bound is nearly reached, so that no more noise is added than must be. @param norms among which an adversary
/// finds the one that counts most, for each group.
inline void bound_is_reached(const any_clipper& clipper, const std::vector<double>& norms) {
  promise_unit worst{};
  std::vector<bool> done(static_cast<std::size_t>(clipper.groups()), false);
  for (std::size_t p = 0; p < 4; ++p) {
    const isize g = clipper.group_of(static_cast<isize>(p));
    if (done[static_cast<std::size_t>(g)]) continue;
    done[static_cast<std::size_t>(g)] = true;
    const auto rule = clipper.rule(g);
    double best = 0;
    for (const double norm : norms)
      if (rule(norm) * norm > rule(best) * best) best = norm;
    worst[promise_offsets[p]] = best;
  }
  promise_unit small{};
  small.fill(1e-9);
  const auto without = clipped_sum(clipper, {small});
  const auto with = clipped_sum(clipper, {worst, small});
  const auto against = clipped_sum(clipper, {opposite(worst), small});
  const double moved = distance_between(with, without);
  const double replaced = distance_between(with, against);
  const double once = clipper.sensitivity(neighbouring::add_remove);
  promise(moved <= once * (1 + 1e-13) && moved >= once * (1 - 1e-6), clipper.describe(),
          ": an adversary moves the sum by ", moved, " of ", once);
  promise(replaced <= 2 * once * (1 + 1e-13) && replaced >= 2 * once * (1 - 1e-6), clipper.describe(),
          ": an adversary replaces ", replaced, " of ", 2 * once);
}

/// All of the above, for a clipper before bind().
inline void keeps_every_promise(any_clipper clipper, const std::vector<double>& norms) {
  clipper.bind(promise_parameters());
  for (isize p = 0; p < 4; ++p) {
    const isize g = clipper.group_of(p);
    promise(g >= 0 && g < clipper.groups(), clipper.describe(), ": parameter ", p, " is in group ", g);
  }
  factors_are_bounded(clipper);
  sensitivity_follows_bounds(clipper);
  units_move_within(clipper, 20240229);
  bound_is_reached(clipper, norms);
}

} // namespace dpopt::test
