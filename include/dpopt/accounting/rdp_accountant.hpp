// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The default accountant: adds up Renyi divergences at a list of orders and converts once, at the best order.
///
/// Sound for any history of gaussian_events, also with changing noise, kind and rate: with discrete noise among them,
/// only integer orders count, and a list without one reports infinity. Typically some 10 % above the true epsilon, more
/// when it is small or after few steps. Cost: a curve of about 200 orders (around a millisecond) when an event is new;
/// record() and epsilon() are otherwise sums over the orders.
#pragma once

#include "dpopt/accounting/accountant.hpp"
#include "dpopt/accounting/rdp.hpp"
#include "dpopt/core/error.hpp"
#include "dpopt/core/types.hpp"
#include "dpopt/parameters/fingerprint.hpp"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <string>
#include <utility>
#include <vector>

namespace dpopt {

/// Dense where the best order lies for epsilon from 0.1 to 100, coarser towards 1024. All integers up to 64 are there
/// and the powers of two after, so that no accountant with those integers only reports less.
inline std::vector<double> default_rdp_orders() {
  std::vector<double> orders;
  for (int i = 101; i < 110; ++i) orders.push_back(i / 100.0);
  for (int i = 22; i < 120; ++i) orders.push_back(i / 20.0);
  for (int i = 60; i < 110; ++i) orders.push_back(i / 10.0);
  for (int i = 11; i < 64; ++i) orders.push_back(i);
  for (int i = 64; i < 1024; i *= 2) {
    for (int quarter = 4; quarter < 8; ++quarter) orders.push_back(i / 4 * quarter);
  }
  orders.push_back(1024);
  return orders;
}

/// Adds up releases at fixed orders. Copyable; not safe to record() while another thread reads.
class rdp_accountant {
public:
  using role = roles::accountant;

  rdp_accountant() : rdp_accountant(default_rdp_orders()) {}

  /// @param orders of the Renyi divergence, each above 1; checked by validate().
  explicit rdp_accountant(std::vector<double> orders) : orders_(std::move(orders)), closed_(orders_.size()) {}

  /// @throw invalid_argument if there is no order, or one is not a finite number above 1.
  void validate() const {
    if (orders_.empty()) throw invalid_argument("rdp_accountant: the list of orders is empty; give one or more");
    for (const double order : orders_) {
      if (!(order > 1 && std::isfinite(order))) {
        throw invalid_argument(message("rdp_accountant: order ", order, " is not a finite number above 1"));
      }
    }
  }

  /// Charges the event. Nothing is recorded when it throws.
  /// @throw invalid_argument on a field outside its range.
  void record(const gaussian_event& event) {
    event.validate();
    if (!history_.empty() && same_release(history_.back(), event) &&
        history_.back().count <= std::numeric_limits<std::uint64_t>::max() - event.count) {
      history_.back().count += event.count;
      return;
    }
    std::vector<double> curve = curve_of(event);
    history_.push_back(event);
    // Nothing below throws. The run that ends moves into the closed sums.
    if (history_.size() > 1) {
      const double n = static_cast<double>(history_[history_.size() - 2].count);
      for (std::size_t i = 0; i < closed_.size(); ++i) closed_[i].add(n * curve_[i]);
    }
    curve_ = std::move(curve);
  }

  /// Upper bound of epsilon at delta for everything recorded; 0 before the first release, infinity when one had no
  /// noise. A function of the recorded runs only: replaying history() gives the same bits.
  /// @throw invalid_argument unless 0 < delta < 1.
  [[nodiscard]] double epsilon(double delta) const { return best(delta).first; }

  /// The order at which epsilon(delta) is reached: the first of the list if several or none.
  [[nodiscard]] double best_order(double delta) const { return best(delta).second; }

  [[nodiscard]] const std::vector<double>& orders() const noexcept { return orders_; }
  /// For describe() of the optimizer and comparison between ranks: which orders, by a digest of them.
  [[nodiscard]] std::string describe() const {
    fingerprint digest;
    for (const double order : orders_) digest.add(order);
    return message("rdp_accountant(", orders_.size(), " orders, digest ", digest.value(), ")");
  }

  /// Everything recorded, equal releases in a row as one event with their count.
  [[nodiscard]] const std::vector<gaussian_event>& history() const noexcept { return history_; }

private:
  // Neumaier's compensated sum: a schedule of a million different events costs no accuracy.
  struct running_sum {
    double sum = 0;
    double lost = 0;
    void add(double x) {
      const double next = sum + x;
      if (std::isfinite(next)) lost += sum >= x ? (sum - next) + x : (x - next) + sum;
      sum = next;
    }
  };

  struct known_curve {
    gaussian_event event;
    std::vector<double> rdp;
  };

  static bool same_release(const gaussian_event& a, const gaussian_event& b) {
    return a.noise_multiplier == b.noise_multiplier && a.sampling_rate == b.sampling_rate && a.relation == b.relation &&
           a.kind == b.kind;
  }

  // Curves of the latest distinct events are kept, so that events taking turns are computed once.
  std::vector<double> curve_of(const gaussian_event& event) {
    for (const known_curve& known : recent_) {
      if (same_release(known.event, event)) return known.rdp;
    }
    std::vector<double> curve;
    curve.reserve(orders_.size());
    for (const double order : orders_) curve.push_back(rdp_of_one(event, order));
    constexpr std::size_t most = 64;
    if (recent_.size() == most) recent_.erase(recent_.begin());
    recent_.push_back({event, curve});
    return curve;
  }

  [[nodiscard]] std::pair<double, double> best(double delta) const {
    if (!(delta > 0 && delta < 1)) throw invalid_argument(message("delta is ", delta, "; use a number in (0, 1)"));
    std::pair<double, double> least{std::numeric_limits<double>::infinity(), orders_.empty() ? 0 : orders_.front()};
    if (history_.empty()) return {0, least.second};
    const double n = static_cast<double>(history_.back().count);
    for (std::size_t i = 0; i < orders_.size(); ++i) {
      const double rdp = closed_[i].sum + closed_[i].lost + n * curve_[i];
      const double epsilon = rdp_to_epsilon(orders_[i], rdp, delta);
      if (epsilon < least.first) least = {epsilon, orders_[i]};
    }
    return least;
  }

  std::vector<double> orders_;
  std::vector<running_sum> closed_;     // of all runs but the last, one an order
  std::vector<double> curve_;           // of one release of the last run
  std::vector<gaussian_event> history_; // runs of equal releases
  std::vector<known_curve> recent_;
};

static_assert(Accountant<rdp_accountant>);

} // namespace dpopt
