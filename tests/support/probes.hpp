// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Policies that write down what the optimizer asked of them, and a small model whose right answers are computed here
/// by their definition.
#pragma once

#include "dpopt/accounting/accountant.hpp"
#include "dpopt/communication/wire.hpp"
#include "dpopt/core/error.hpp"
#include "dpopt/core/types.hpp"
#include "dpopt/gradients/materialized.hpp"
#include "dpopt/noise/noise_mechanism.hpp"
#include "dpopt/parameters/parameter_view.hpp"
#include "support/random_numbers.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <limits>
#include <string>
#include <vector>

namespace dpopt::test {

/// What the probes were asked, in order.
struct journal {
  struct noise_call {
    address where;
    double std = 0;
    isize count = 0;
  };
  std::vector<noise_call> noise;
  int trials = 0; ///< single numbers of std 1 that were drawn to see whether the stream is exhausted
  std::vector<gaussian_event> charged;
  std::vector<isize> sums;        ///< lengths of the collectives
  std::vector<std::string> order; ///< "charge", "noise", "sum", each named once in a row

  void note(const std::string& what) {
    if (order.empty() || order.back() != what) order.push_back(what);
  }
};

/// "Noise" that is exactly its standard deviation on every number: a second helping, a wrong std or none is seen at
/// once.
struct probe_noise {
  using role = roles::noise;
  static constexpr bool addressable = true;
  double noise_multiplier = 1;
  journal* log = nullptr;

  [[nodiscard]] double multiplier() const { return noise_multiplier; }
  void validate() const {}
  [[nodiscard]] static std::string describe() { return "probe_noise"; }
  template <std::floating_point V>
  void add(const address& where, double std_in_units, V* x, isize count) {
    if (log != nullptr && count == 1 && std_in_units == 1) {
      ++log->trials;
    } else if (log != nullptr) {
      log->noise.push_back({where, std_in_units, count});
      log->note("noise");
    }
    for (isize i = 0; i < count; ++i) x[i] += static_cast<V>(std_in_units);
  }
};

/// Remembers every event; epsilon is their number.
struct probe_accountant {
  using role = roles::accountant;
  journal* log = nullptr;

  void record(const gaussian_event& event) {
    event.validate();
    if (log == nullptr) return;
    log->charged.push_back(event);
    log->note("charge");
  }
  [[nodiscard]] double epsilon(double) const { return log != nullptr ? static_cast<double>(log->charged.size()) : 0; }
};

/// Rank 0 of `ranks` that all have the same data: a sum multiplies by their number.
struct mirrored_ranks {
  using role = roles::communicator;
  struct request {};
  int ranks = 1;
  journal* log = nullptr;

  [[nodiscard]] int rank() const { return 0; }
  [[nodiscard]] int size() const { return ranks; }
  void broadcast(std::byte*, isize, int) {}
  template <WireNumber T>
  [[nodiscard]] request start_sum(T* values, isize n) {
    for (isize i = 0; i < n; ++i) values[i] *= static_cast<T>(ranks);
    if (log != nullptr) {
      log->sums.push_back(n);
      log->note("sum");
    }
    return {};
  }
  void wait(request&) {}
};

/// Three parameters, one of them a scalar, with arrays for the released gradients.
struct small_model {
  static constexpr std::array<isize, 3> sizes{4, 2, 1};
  static constexpr isize total = 7;
  std::vector<double> weight = {1, 2, 3, 4};
  std::vector<double> bias = {5, 6};
  std::vector<double> scale = {7};
  std::array<std::vector<double>, 3> gradients = {std::vector<double>(4), std::vector<double>(2),
                                                  std::vector<double>(1)};

  [[nodiscard]] std::vector<parameter_view<double>> views() {
    return {{"weight", weight, gradients[0]}, {"bias", bias, gradients[1]}, {"scale", scale, gradients[2]}};
  }
  [[nodiscard]] std::vector<parameter_view<double>> views_without_gradients() {
    return {{"weight", weight}, {"bias", bias}, {"scale", scale}};
  }
  [[nodiscard]] std::vector<double> values() const { return joined({weight, bias, scale}); }
  [[nodiscard]] std::vector<double> released() const { return joined({gradients[0], gradients[1], gradients[2]}); }

  [[nodiscard]] static std::vector<double> joined(const std::vector<std::vector<double>>& parts) {
    std::vector<double> out;
    for (const auto& part : parts) out.insert(out.end(), part.begin(), part.end());
    return out;
  }
};

/// Per-sample gradients of a small_model; some are longer than 1 and some shorter.
struct small_batch {
  isize samples;
  std::array<std::vector<double>, 3> rows;

  explicit small_batch(isize n, int seed = 1) : samples(n) {
    for (std::size_t p = 0; p < 3; ++p) {
      rows[p] = random_numbers<double>(n * small_model::sizes[p], seed * 10 + static_cast<int>(p));
      for (double& x : rows[p]) x *= 1.5;
    }
  }
  [[nodiscard]] materialized<double> source(isize p) const {
    return {rows[static_cast<std::size_t>(p)].data(), samples, small_model::sizes[static_cast<std::size_t>(p)]};
  }
  template <class Opt>
  void hand_over(Opt& opt) const {
    for (isize p = 2; p >= 0; --p) opt.gradient_ready(p, source(p));
  }
  [[nodiscard]] double norm(std::size_t p, isize i) const {
    double squares = 0;
    const isize n = small_model::sizes[p];
    for (isize k = 0; k < n; ++k) squares += std::pow(rows[p][static_cast<std::size_t>(i * n + k)], 2);
    return std::sqrt(squares);
  }
  void spoil() {
    for (auto& r : rows) r.assign(r.size(), std::numeric_limits<double>::quiet_NaN());
  }

  /// sum_i min(1, C / (|w_i g_i| + 1e-6)) w_i g_i for each parameter by itself.
  [[nodiscard]] std::vector<double> clipped_per_layer(const std::array<double, 3>& bounds, double w = 1) const {
    std::vector<double> out;
    for (std::size_t p = 0; p < 3; ++p) {
      const isize n = small_model::sizes[p];
      std::vector<double> sum(static_cast<std::size_t>(n), 0.0);
      for (isize i = 0; i < samples; ++i)
        for (isize k = 0; k < n; ++k)
          sum[static_cast<std::size_t>(k)] += std::min(1.0, bounds[p] / (std::abs(w) * norm(p, i) + 1e-6)) * w *
                                              rows[p][static_cast<std::size_t>(i * n + k)];
      out.insert(out.end(), sum.begin(), sum.end());
    }
    return out;
  }

  /// The same with one norm over all parameters.
  [[nodiscard]] std::vector<double> clipped_flat(double bound) const {
    std::vector<double> out;
    for (std::size_t p = 0; p < 3; ++p) {
      const isize n = small_model::sizes[p];
      for (isize k = 0; k < n; ++k) {
        double sum = 0;
        for (isize i = 0; i < samples; ++i) {
          const double whole = std::hypot(norm(0, i), norm(1, i), norm(2, i));
          sum += std::min(1.0, bound / (whole + 1e-6)) * rows[p][static_cast<std::size_t>(i * n + k)];
        }
        out.push_back(sum);
      }
    }
    return out;
  }
};

/// Gradients of a small_model in which unit i has the norm norms[i] in every layer.
[[nodiscard]] inline small_batch units_with_norms(const std::vector<double>& norms) {
  small_batch batch(std::ssize(norms));
  for (std::size_t p = 0; p < 3; ++p) {
    const auto n = static_cast<std::size_t>(small_model::sizes[p]);
    batch.rows[p].assign(batch.rows[p].size(), 0.0);
    for (std::size_t i = 0; i < norms.size(); ++i) batch.rows[p][i * n + n - 1] = norms[i];
  }
  return batch;
}

/// Whether a and b agree to 1e-12 of the largest |b|, element by element.
inline bool close(const std::vector<double>& a, const std::vector<double>& b) {
  if (a.size() != b.size()) return false;
  double largest = 1;
  for (const double x : b) largest = std::max(largest, std::abs(x));
  for (std::size_t i = 0; i < a.size(); ++i)
    if (!(std::abs(a[i] - b[i]) <= 1e-12 * largest)) return false;
  return true;
}

/// a + b x factor, element by element; b may be one number for all.
inline std::vector<double> plus(std::vector<double> a, const std::vector<double>& b, double factor = 1) {
  for (std::size_t i = 0; i < a.size(); ++i) a[i] += factor * b[i];
  return a;
}
inline std::vector<double> plus(std::vector<double> a, double b) {
  for (double& x : a) x += b;
  return a;
}
inline std::vector<double> over(std::vector<double> a, double divisor) {
  for (double& x : a) x /= divisor;
  return a;
}

} // namespace dpopt::test
