// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Noise that writes down which numbers of its stream were added to something.
#pragma once

#include "dpopt/core/types.hpp"
#include "dpopt/noise/counter_gaussian.hpp"
#include "dpopt/noise/noise_mechanism.hpp"

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <tuple>

namespace dpopt::test {

/// Address, and of counter_gaussian the key of the stream: seed and incarnation.
using place = std::tuple<purpose, std::uint32_t, std::uint64_t, std::uint32_t, std::uint64_t, philox_key>;

struct record {
  std::multiset<place> used; ///< one entry each time a number was added to something

  [[nodiscard]] bool distinct() const { return std::set<place>(used.begin(), used.end()).size() == used.size(); }
  /// The gradients' numbers, or those of the counts.
  [[nodiscard]] std::size_t count_of(purpose what) const {
    return static_cast<std::size_t>(
        std::count_if(used.begin(), used.end(), [&](const place& p) { return std::get<0>(p) == what; }));
  }
  [[nodiscard]] std::set<std::uint64_t> steps() const {
    std::set<std::uint64_t> out;
    for (const place& p : used) out.insert(std::get<2>(p));
    return out;
  }
  [[nodiscard]] std::set<philox_key> keys() const {
    std::set<philox_key> out;
    for (const place& p : used) out.insert(std::get<5>(p));
    return out;
  }
};

/// What it is asked for at std 1 is the optimizer's probe of the last number of a step, which is thrown away. Not for
/// several threads at once.
template <class Inner>
struct recording {
  using role = roles::noise;
  static constexpr bool addressable = true;
  static constexpr noise_kind kind = noise_kind_of<Inner>;
  Inner inner;
  std::shared_ptr<record> into = std::make_shared<record>();

  [[nodiscard]] double multiplier() const { return inner.multiplier(); }
  void validate() const { inner.validate(); }
  void draw_secret() { inner.draw_secret(); }
  void renew_secret()
    requires requires(Inner& n) { n.renew_secret(); }
  {
    inner.renew_secret();
  }
  [[nodiscard]] std::span<std::byte> secret() { return inner.secret(); }
  [[nodiscard]] bool reproducible() const { return inner.reproducible(); }
  [[nodiscard]] static std::string describe() { return "recording_noise"; }
  template <class V>
    requires NoiseMechanism<Inner, V>
  void add(const address& where, double std, V* x, isize count) const {
    philox_key key{};
    if constexpr (std::same_as<Inner, counter_gaussian>) key = inner.secret_.key(std::same_as<V, double> ? 0 : 1);
    if (std != 1.0)
      for (isize i = 0; i < count; ++i)
        into->used.insert(
            {where.what, where.lane, where.step, where.parameter, where.element + static_cast<std::uint64_t>(i), key});
    inner.add(where, std, x, count);
  }
};
using recording_noise = recording<counter_gaussian>;

} // namespace dpopt::test
