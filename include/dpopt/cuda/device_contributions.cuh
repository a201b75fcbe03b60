// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// From per-sample gradients to the local sum, on the device: norms, factors, weighted sums, in the order in which
/// gradients arrive. The host never waits, and never sees a norm unless the clipper learns from them.
///
/// Small parameters share launches: their norms until a table is full or their group is complete, their sums and, over
/// groups, factors too. A group whose parameters are all small and `kept` waits for the others until the microbatch is
/// over; any other is done with when it is complete.
#pragma once

#include "dpopt/clipping/clipper.hpp"
#include "dpopt/cuda/clip_factors.cuh"
#include "dpopt/cuda/device_gradients.hpp"
#include "dpopt/cuda/launch_queue.cuh"
#include "dpopt/cuda/observed_norms.hpp"
#include "dpopt/dp_optimizer/contributions.hpp"
#include "dpopt/dp_optimizer/microbatch.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <span>
#include <utility>
#include <vector>

namespace dpopt::cuda {

/// Holds a clipper, an accumulator and the sums of all parameters, one after the other.
template <Clipper C, DeviceAccumulator A, DeviceApi D>
class device_contributions {
public:
  using value_type = typename A::value_type;

  device_contributions(C clipper, A accumulator) : clipper_(std::move(clipper)), accumulator_(std::move(accumulator)) {}

  /// @param offsets where each parameter starts in the sums, which are `total` numbers. @throw invalid_argument as the
  /// policies do, device_error.
  void bind(device_work<D>& on, const std::vector<parameter_info>& parameters, std::vector<isize> offsets,
            isize total) {
    clipper_.bind(parameters);
    offsets_ = std::move(offsets);
    total_ = total;
    accumulator_.bind(largest_norm());
    const auto groups = static_cast<std::size_t>(clipper_.groups());
    members_.assign(groups, {});
    for (isize p = static_cast<isize>(parameters.size()) - 1; p >= 0; --p)
      members_[static_cast<std::size_t>(clipper_.group_of(p))].push_back(p);
    waiting_.resize(groups);
    may_wait_.resize(groups);
    complete_.reserve(groups);
    sources_.resize(parameters.size());
    if constexpr (LearningClipper<C>) side_.assign(static_cast<std::size_t>(clipper_.side_scalars()), 0.0);
    sums_ = device_vector<value_type, D>(on.device(), total_, "allocate sums");
    counts_ = device_vector<sample_counts, D>(on.device(), 1, "allocate counts");
    clear_sums(on);
    clear_counts(on); // they may be asked for before the first begin()
  }

  /// Makes room for a microbatch and clears its norms.
  void begin(device_work<D>& on, const microbatch& m) {
    current_ = m;
    for (std::size_t g = 0; g < members_.size(); ++g) waiting_[g] = static_cast<isize>(members_[g].size());
    std::fill(may_wait_.begin(), may_wait_.end(), true);
    forget_sources();
    if (stale_) clear_sums(on);
    if (!counted_) clear_counts(on);
    const isize rows = clipper_.groups();
    norms_.reserve(on.device(), rows * m.samples, "allocate norms");
    factors_.reserve(on.device(), m.samples, "allocate factors");
    if (m.samples > 0)
      on.zero(norms_.data(), static_cast<std::size_t>(rows * m.samples) * sizeof(double), "zero norms");
  }

  /// Puts the norms of parameter p on the stream, or in the queue for it, and, when its group is complete, factors and
  /// sums.
  template <class S>
  void add(device_work<D>& on, isize p, const S& source) {
    add_source(on, p, source, false);
  }
  template <class S>
  void add(device_work<D>& on, isize p, const kept<S>& source) {
    add_source(on, p, static_cast<const S&>(source), true);
  }

  /// Parameter p contributes nothing in this microbatch.
  void add_absent(device_work<D>& on, isize p) { count_down(on, clipper_.group_of(p)); }

  /// The open microbatch is over: groups that waited are added; what a clipper learns from starts its way to the host.
  void close(device_work<D>& on) {
    add_groups(on, complete_);
    complete_.clear();
    if constexpr (LearningClipper<C>) observed_.fetch(on, current_, norms_.data(), clipper_.groups());
  }

  /// WAITS for the device if the clipper learns: this rank's side scalars of the step. Empty for other clippers.
  [[nodiscard]] std::span<double> side(device_work<D>& on) {
    if constexpr (LearningClipper<C>) observed_.wait(on, [&](const observed_microbatch& m) { observe(m); });
    return side_;
  }
  [[nodiscard]] isize side_scalars() const noexcept { return std::ssize(side_); }

  /// Forgets views, counts and what was observed; the sums are cleared by whoever releases or drops them.
  void forget() noexcept {
    forget_sources();
    counted_ = false;
    std::fill(side_.begin(), side_.end(), 0.0);
    observed_.forget();
  }

  /// Zeroes the sums of a step that is dropped. If that fails, begin() tries again before a sample is added.
  void clear_sums(device_work<D>& on) {
    stale_ = true;
    on.zero(sums_.data(), static_cast<std::size_t>(total_) * sizeof(value_type), "zero sums");
    stale_ = false;
  }

  [[nodiscard]] C& clipper() noexcept { return clipper_; }
  [[nodiscard]] const C& clipper() const noexcept { return clipper_; }
  [[nodiscard]] const A& accumulator() const noexcept { return accumulator_; }
  [[nodiscard]] value_type* sums() noexcept { return sums_.data(); }
  [[nodiscard]] isize total() const noexcept { return total_; }

  /// PRIVATE. WAITS for the device.
  [[nodiscard]] private_counts counts(device_work<D>& on) {
    pinned_vector<sample_counts, D> host(on.device(), 1);
    on.copy(host.data(), counts_.data(), sizeof(sample_counts), copy_direction::to_host, "copy counts");
    on.device().synchronize(on.stream(), "synchronize counts");
    return host.data()->as_private_counts();
  }

private:
  void clear_counts(device_work<D>& on) {
    on.zero(counts_.data(), sizeof(sample_counts), "zero counts");
    counted_ = true;
  }
  [[nodiscard]] double largest_norm() const {
    if constexpr (requires { clipper_.greatest_sensitivity(); }) return clipper_.greatest_sensitivity();
    else return clipper_.sensitivity(neighbouring::add_remove);
  }
  [[nodiscard]] double* norms(isize g) noexcept { return norms_.data() + g * current_.samples; }

  void forget_sources() noexcept {
    for (auto& s : sources_) s = {};
    norms_queue_.forget();
    sums_queue_.forget();
    complete_.clear();
  }

  template <class S>
  void add_source(device_work<D>& on, isize p, const S& source, bool stays) {
    const isize g = clipper_.group_of(p);
    auto& waiting = sources_[static_cast<std::size_t>(p)] = waiting_source<A, D>(source);
    if (!(stays && waiting.shares_launches())) may_wait_[static_cast<std::size_t>(g)] = false;
    if (waiting.shares_launches())
      norms_queue_.add({&waiting, norms(g), nullptr}, norms_launch<A, D>{on, current_.samples});
    else waiting.add_squared_norms(on, norms(g));
    count_down(on, g);
  }

  void count_down(device_work<D>& on, isize g) {
    if (--waiting_[static_cast<std::size_t>(g)] > 0) return;
    if (may_wait_[static_cast<std::size_t>(g)]) complete_.push_back(g);
    else add_groups(on, {&g, 1});
  }

  /// Factors and sums of groups whose norms are asked for.
  void add_groups(device_work<D>& on, std::span<const isize> groups) {
    if (current_.samples == 0) return;
    norms_queue_.flush(norms_launch<A, D>{on, current_.samples});
    factors_.reserve(on.device(), std::ssize(groups) * current_.samples, "allocate factors");
    launch_clip_factors(
        on, std::ssize(groups),
        [&](isize k) {
          const isize g = groups[static_cast<std::size_t>(k)];
          return group_norms<decltype(clipper_.rule(g))>{clipper_.rule(g), norms(g),
                                                         std::ssize(members_[static_cast<std::size_t>(g)])};
        },
        current_, factors_.data(), counts_.data());
    const double* factors = factors_.data();
    for (const isize g : groups) {
      for (const isize p : members_[static_cast<std::size_t>(g)]) {
        const auto& source = sources_[static_cast<std::size_t>(p)];
        value_type* const at = sums_.data() + offsets_[static_cast<std::size_t>(p)];
        if (source.shares_launches())
          sums_queue_.add({&source, at, factors}, sums_launch<A, D>{on, accumulator_, current_.samples});
        else if (source) source.add_to(accumulator_, on, factors, at);
      }
      factors += current_.samples;
    }
    sums_queue_.flush(sums_launch<A, D>{on, accumulator_, current_.samples});
  }

  /// What contributions of the core does with each finite norm.
  void observe(const observed_microbatch& m) {
    if constexpr (LearningClipper<C>)
      for (isize g = 0; g < clipper_.groups(); ++g)
        for (isize i = 0; i < m.samples; ++i) {
          const double w = m.gradient_scale * m.weight(i);
          if (w == 0) continue;
          const isize members = std::ssize(members_[static_cast<std::size_t>(g)]);
          const double squared = m.squared_norms[g * m.samples + i];
          const double norm = std::sqrt(members > 1 ? upper_bound_of_sum(squared, members) : squared) * std::abs(w);
          if (std::isfinite(norm) && std::isfinite(clipper_.rule(g)(norm) * w)) clipper_.observe(g, norm, side_);
        }
  }

  C clipper_;
  A accumulator_;
  microbatch current_;
  std::vector<isize> offsets_;
  std::vector<std::vector<isize>> members_; // of each group, last registered first
  std::vector<isize> waiting_;              // parameters of each group whose norms are still missing
  std::vector<char> may_wait_;              // whether all of each group that came is small and kept
  std::vector<isize> complete_;             // groups that wait for the end of the microbatch
  std::vector<waiting_source<A, D>> sources_;
  launch_queue<A, D, double> norms_queue_;
  launch_queue<A, D, value_type> sums_queue_;
  std::vector<double> side_;
  observed_norms<D> observed_;
  device_vector<value_type, D> sums_;
  device_vector<double, D> norms_;   // [groups x samples], squared
  device_vector<double, D> factors_; // [groups that are added together x samples]
  device_vector<sample_counts, D> counts_;
  isize total_ = 0;
  bool stale_ = false;   // the sums hold something that must not be released
  bool counted_ = false; // the counts are of this step
};

} // namespace dpopt::cuda
