// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// What an update needs beside the parameters: released gradients where the user gave no room for them, and the base
/// optimizer's state. Arrays as long as all parameters together, laid out as the bucket plan says.
#pragma once

#include "dpopt/communication/buckets.hpp"
#include "dpopt/core/aligned_vector.hpp"
#include "dpopt/core/types.hpp"
#include "dpopt/optimizers/base_optimizer.hpp"
#include "dpopt/parameters/parameter_set.hpp"

#include <array>
#include <concepts>
#include <cstddef>
#include <span>
#include <vector>

namespace dpopt {

/// Released gradients never lie in the memory of the sum, which holds gradients without noise until the release.
/// Gathers: parts of all released gradients come from other ranks, into an array of ours.
template <std::floating_point T, class Base, bool Gathers>
class update_memory {
public:
  /// State arrays an elementwise base optimizer may use; 0 for others.
  static constexpr std::size_t slots = [] {
    if constexpr (ElementwiseOptimizer<Base, T>) return Base::slots;
    else return std::size_t{0};
  }();

  /// Both must outlive this object; nothing is allocated yet.
  update_memory(const parameter_set<T>& parameters, const bucket_plan& plan) : parameters_(parameters), plan_(plan) {}

  /// Room for the released gradients that the user gave none for. Before ranks agree on a step, so that a lack of
  /// memory is an error of all of them.
  void make_gradients() {
    for (const auto& p : parameters_)
      if (Gathers || p.gradient.empty()) return own_gradients_.resize(static_cast<std::size_t>(plan_.total()));
  }
  /// Where p's released gradient is: the user's array, or ours.
  [[nodiscard]] std::span<T> gradient(isize p) {
    const auto& entry = parameters_[p];
    if (!entry.gradient.empty() || entry.value.empty()) return entry.gradient;
    return {own_gradients_.data() + plan_.offset(p), entry.value.size()};
  }
  /// Our array of all gradients, after make_gradients().
  [[nodiscard]] std::vector<T>& own_gradients() noexcept { return own_gradients_; }

  /// Zeros for the slots that the base optimizer uses with its options of now. Before ranks agree on a step, as
  /// make_gradients().
  void make_slots(const Base& base) {
    for (std::size_t s = 0; s < slots; ++s)
      if (slot_in_use(base, s) && !keeps(s)) make_slot(s);
  }
  void make_slot(std::size_t s) { state_[s].assign(static_cast<std::size_t>(plan_.total()), T(0)); }
  [[nodiscard]] bool keeps(std::size_t s) const noexcept { return std::ssize(state_[s]) == plan_.total(); }
  /// Parameter p's part of a slot that is kept.
  [[nodiscard]] std::span<const T> slot(isize p, std::size_t s) const {
    return std::span(state_[s]).subspan(static_cast<std::size_t>(plan_.offset(p)), parameters_[p].value.size());
  }
  /// Where each slot is from element `first` of p on; null for those that are not kept.
  [[nodiscard]] std::array<T*, slots> tile(isize p, isize first) {
    std::array<T*, slots> out{};
    for (std::size_t s = 0; s < slots; ++s)
      if (keeps(s)) out[s] = state_[s].data() + plan_.offset(p) + first;
    return out;
  }
  /// All slots, for checkpoints; empty where one is not kept.
  [[nodiscard]] std::array<aligned_vector<T>, slots>& state() noexcept { return state_; }

private:
  const parameter_set<T>& parameters_;
  const bucket_plan& plan_;
  std::vector<T> own_gradients_;
  std::array<aligned_vector<T>, slots> state_;
};

} // namespace dpopt
