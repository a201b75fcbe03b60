// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// A small training run whose per-sample gradients are a pure function of (step, sample, parameter, element), so that
/// any split of the samples over ranks and microbatches can be compared with any other.
#pragma once

#include "dpopt/core/types.hpp"
#include "dpopt/gradients/materialized.hpp"
#include "dpopt/parameters/parameter_view.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <limits>
#include <numeric>
#include <random>
#include <string>
#include <utility>
#include <vector>

namespace dpopt::test {

/// Parameters with names, values and arrays for released gradients.
template <class T>
struct toy_model {
  std::vector<std::string> names;
  std::vector<std::vector<T>> values;
  std::vector<std::vector<T>> gradients;

  explicit toy_model(const std::vector<isize>& sizes) {
    for (std::size_t p = 0; p < sizes.size(); ++p) {
      names.push_back("layer " + std::to_string(p));
      values.emplace_back(static_cast<std::size_t>(sizes[p]));
      gradients.emplace_back(static_cast<std::size_t>(sizes[p]), T(0));
      for (std::size_t k = 0; k < values[p].size(); ++k)
        values[p][k] = static_cast<T>(0.25 * static_cast<double>(k % 9) - 1);
    }
  }
  [[nodiscard]] std::vector<parameter_view<T>> views() {
    std::vector<parameter_view<T>> out;
    for (std::size_t p = 0; p < names.size(); ++p) out.push_back({names[p], values[p], gradients[p]});
    return out;
  }
  [[nodiscard]] std::vector<T> all_values() const { return joined(values); }
  [[nodiscard]] std::vector<T> all_gradients() const { return joined(gradients); }

private:
  static std::vector<T> joined(const std::vector<std::vector<T>>& arrays) {
    std::vector<T> out;
    for (const auto& a : arrays) out.insert(out.end(), a.begin(), a.end());
    return out;
  }
};

inline const std::vector<isize>& toy_sizes() {
  static const std::vector<isize> sizes{12, 3, 1, 1500, 7}; // one is larger than a tile of the release
  return sizes;
}

/// A number in (-1, 1) times a scale of the sample's own: some samples are clipped and some are not.
inline double toy_gradient(isize step, isize sample, isize parameter, isize element) {
  std::uint64_t z = static_cast<std::uint64_t>(step) * 0x9e3779b97f4a7c15u +
                    static_cast<std::uint64_t>(sample) * 0xbf58476d1ce4e5b9u +
                    static_cast<std::uint64_t>(parameter) * 0x94d049bb133111ebu + static_cast<std::uint64_t>(element) +
                    1;
  for (int round = 0; round < 2; ++round) z = (z ^ (z >> 31)) * 0xd6e8feb86659fd93u;
  const double unit = static_cast<double>(z >> 11) * 0x1p-52 - 1;
  return std::ldexp(unit, static_cast<int>(sample % 7) - 4);
}

/// Ids of the samples of each microbatch of one rank.
using microbatches = std::vector<std::vector<isize>>;

/// All samples in one microbatch.
inline microbatches all_at_once(isize samples) {
  microbatches out(1, std::vector<isize>(static_cast<std::size_t>(samples)));
  std::iota(out[0].begin(), out[0].end(), isize{0});
  return out;
}

/// What one rank of W gets: nothing on one rank a step (one empty microbatch), elsewhere one to three microbatches of
/// unequal size, some of them empty. Over the ranks every sample comes once.
inline microbatches uneven_share(isize samples, isize step, int rank, int ranks) {
  const int idle = ranks > 1 ? static_cast<int>((step + 1) % ranks) : -1;
  const int working = ranks > 1 ? ranks - 1 : 1;
  const auto parts = static_cast<std::size_t>(rank == idle ? 1 : 1 + (rank + step) % 3);
  microbatches out(parts);
  for (isize i = 0; i < samples; ++i) {
    int owner = static_cast<int>((i * i + step) % working);
    if (idle >= 0 && owner >= idle) ++owner;
    if (owner == rank) out[static_cast<std::size_t>(i * (i + 3)) % parts].push_back(i);
  }
  return out;
}

/// Hands microbatches to an optimizer; keeps their numbers alive until the next feed or clear.
template <class T>
class toy_feeder {
public:
  /// @param seed   Decides the order in which the parameters' gradients arrive; 0 is registration order.
  /// @param ends   What begin() is told as .ends_batch.
  template <class Opt>
  void feed(Opt& opt, isize step, const microbatches& parts, std::uint64_t seed = 0, bool ends = false) {
    rows_.clear();
    for (std::size_t m = 0; m < parts.size(); ++m) {
      opt.begin({.samples = std::ssize(parts[m]), .last = m + 1 == parts.size(), .ends_batch = ends});
      hand_over(opt, step, parts[m], seed == 0 ? 0 : seed + m);
    }
  }

  /// The gradients of one microbatch that is open, but for one parameter.
  template <class Opt>
  void hand_over(Opt& opt, isize step, const std::vector<isize>& samples, std::uint64_t seed = 0, isize without = -1) {
    std::vector<isize> order(toy_sizes().size());
    std::iota(order.begin(), order.end(), isize{0});
    std::mt19937_64 shuffle(seed);
    if (seed != 0) std::shuffle(order.begin(), order.end(), shuffle);
    for (const isize p : order) {
      if (p == without) continue;
      const isize size = toy_sizes()[static_cast<std::size_t>(p)];
      std::vector<T>& row = rows_.emplace_back();
      for (const isize i : samples)
        for (isize k = 0; k < size; ++k) row.push_back(static_cast<T>(toy_gradient(step, i, p, k)));
      opt.gradient_ready(p, materialized<T>(row.data(), std::ssize(samples), size));
    }
  }

private:
  std::deque<std::vector<T>> rows_;
};

/// What a run leaves: the parameters at its end and the released gradient of each step.
template <class T>
struct toy_result {
  std::vector<T> values;
  std::vector<std::vector<T>> released;
};

/// Trains for some steps. make(views) gives the optimizer, share(step) this rank's microbatches.
template <class T, class Make, class Share>
toy_result<T> toy_train(isize steps, Make make, Share share, std::uint64_t arrival_seed = 0) {
  toy_model<T> model(toy_sizes());
  auto opt = make(model.views());
  toy_feeder<T> feeder;
  toy_result<T> out;
  for (isize s = 0; s < steps; ++s) {
    feeder.feed(opt, s, share(s), arrival_seed == 0 ? 0 : arrival_seed + static_cast<std::uint64_t>(s) * 100);
    opt.step();
    out.released.push_back(model.all_gradients());
  }
  out.values = model.all_values();
  return out;
}

/// Largest |a - b| over the largest |b|; infinity where lengths differ or something is not a number.
template <class T>
double distance(const std::vector<T>& a, const std::vector<T>& b) {
  if (a.size() != b.size()) return std::numeric_limits<double>::infinity();
  double worst = 0;
  double largest = std::numeric_limits<double>::min();
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double d = std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
    worst = d <= worst ? worst : std::isnan(d) ? std::numeric_limits<double>::infinity() : d;
    largest = std::max(largest, std::abs(static_cast<double>(b[i])));
  }
  return worst / largest;
}

/// The larger distance of values and of any released gradient.
template <class T>
double distance(const toy_result<T>& a, const toy_result<T>& b) {
  double worst = distance(a.values, b.values);
  if (a.released.size() != b.released.size()) return std::numeric_limits<double>::infinity();
  for (std::size_t s = 0; s < a.released.size(); ++s) worst = std::max(worst, distance(a.released[s], b.released[s]));
  return worst;
}

} // namespace dpopt::test
