// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// From per-sample gradients to the local sum: norms, factors, weighted sums. The only place where a norm becomes a
/// factor.
#pragma once

#include "dpopt/accumulation/accumulator.hpp"
#include "dpopt/accumulation/deferred_source.hpp"
#include "dpopt/clipping/clipper.hpp"
#include "dpopt/core/vector_dispatch.hpp"
#include "dpopt/dp_optimizer/microbatch.hpp"
#include "dpopt/dp_optimizer/sample_rows.hpp"
#include "dpopt/dp_optimizer/waiting_rows.hpp"
#include "dpopt/gradients/per_sample_gradients.hpp"

#include <algorithm>
#include <cmath>
#include <span>
#include <utility>
#include <vector>

namespace dpopt {

/// Counts over the samples of this rank since the last step. PRIVATE: releasing them costs privacy of its own.
struct private_counts {
  isize samples = 0;    ///< (sample, group) pairs seen, dropped ones included
  isize clipped = 0;    ///< scaled down
  isize non_finite = 0; ///< dropped because a number was NaN or Inf
};

/// Holds a clipper and an accumulator. `done(p)` is called when all of parameter p's samples of the current microbatch
/// are in the sum.
template <Clipper C, Accumulator A>
class contributions {
public:
  contributions(C clipper, A sum) : clipper_(std::move(clipper)), sum_(std::move(sum)) {}

  /// @param offsets where each parameter starts in the accumulator. @throw invalid_argument as the policies do.
  void bind(const std::vector<parameter_info>& parameters, std::vector<isize> offsets) {
    clipper_.bind(parameters);
    offsets_ = std::move(offsets);
    total_ = 0;
    for (const auto& p : parameters) total_ += p.size;
    sum_.resize(total_, largest_norm());
    const auto groups = static_cast<std::size_t>(clipper_.groups());
    members_.assign(groups, {});
    for (isize p = static_cast<isize>(parameters.size()) - 1; p >= 0; --p)
      members_[static_cast<std::size_t>(clipper_.group_of(p))].push_back(p);
    waiting_.resize(groups);
    shared_row_.assign(groups, 0);
    rows_ = 1; // row 0 serves every group of one parameter: its norms are needed for a moment only
    for (std::size_t g = 0; g < groups; ++g)
      if (members_[g].size() > 1) shared_row_[g] = rows_++;
    deferred_.resize(parameters.size());
    waiting_rows_.bind(std::ssize(parameters));
    second_way_.assign(parameters.size(), false);
    if constexpr (LearningClipper<C>) side_.assign(static_cast<std::size_t>(clipper_.side_scalars()), 0.0);
  }

  void begin(const microbatch& m) {
    current_ = m;
    squared_norms_.assign(static_cast<std::size_t>(m.samples * rows_), 0.0);
    factors_.resize(static_cast<std::size_t>(m.samples));
    for (std::size_t g = 0; g < members_.size(); ++g) waiting_[g] = static_cast<isize>(members_[g].size());
    drop_views(); // an empty microbatch may have left some behind
  }

  /// Clips now, or as soon as the group is complete.
  template <class S, class Done>
  void add(isize p, const S& source, Done&& done) {
    const isize g = clipper_.group_of(p);
    if (alone(g)) return add_alone(p, g, source, done);
    add_norms(p, g, source);
    deferred_[static_cast<std::size_t>(p)] = deferred_source<A>(source);
    count_down(g, done);
  }

  /// Parameter p contributes nothing in this microbatch.
  template <class Done>
  void add_absent(isize p, Done&& done) {
    const isize g = clipper_.group_of(p);
    if (!alone(g)) return count_down(g, done);
    std::fill_n(norms(g), current_.samples, 0.0);
    compute_factors(g, everyone()); // for what is counted: a gradient of zero
    done(p);
  }

  /// Keeps the view for flush().
  template <class S>
  void defer(isize p, const S& source) {
    deferred_[static_cast<std::size_t>(p)] = deferred_source<A>(source);
  }

  /// Works off everything deferred, in one fixed order: last registered first.
  template <class Done>
  void flush(Done&& done) {
    for (isize p = static_cast<isize>(deferred_.size()) - 1; p >= 0; --p) {
      auto& source = deferred_[static_cast<std::size_t>(p)];
      const isize g = clipper_.group_of(p);
      if (!source) add_absent(p, done);
      else if (alone(g)) add_alone(p, g, std::exchange(source, {}), done);
      else {
        add_norms(p, g, source);
        count_down(g, done);
      }
    }
  }

  /// Bytes for samples that are written out for their norms and wait for their group's factors; what does not fit is
  /// written a second time. 0: none are.
  void keep_rows(isize bytes) noexcept { waiting_rows_.set_room(bytes); }

  /// Forgets views and counts; the sum itself is cleared by whoever releases or discards it.
  void forget() noexcept {
    drop_views();
    counts_ = {};
    std::fill(side_.begin(), side_.end(), 0.0);
  }

  /// Sets the sum to zero.
  void clear_sum() noexcept {
    if constexpr (SealedAccumulator<A>) sum_.clear();
    else std::fill_n(sum_.data(), total_, typename A::value_type{});
  }

  /// The sum's elements [first, first + count) are complete and go to the other ranks.
  void seal(isize first, isize count) noexcept {
    if constexpr (SealedAccumulator<A>) sum_.seal(first, count);
  }

  [[nodiscard]] C& clipper() noexcept { return clipper_; }
  [[nodiscard]] const C& clipper() const noexcept { return clipper_; }
  [[nodiscard]] A& sum() noexcept { return sum_; }
  [[nodiscard]] const A& sum() const noexcept { return sum_; }
  [[nodiscard]] const private_counts& counts() const noexcept { return counts_; }
  [[nodiscard]] workspace& scratch() noexcept { return scratch_; }
  [[nodiscard]] const workspace& scratch() const noexcept { return scratch_; }

  /// This rank's side scalars of a LearningClipper; empty for others.
  [[nodiscard]] std::span<double> side() noexcept { return side_; }

private:
  [[nodiscard]] double largest_norm() const {
    if constexpr (requires { clipper_.greatest_sensitivity(); })
      return clipper_.greatest_sensitivity(); // over all steps
    else return clipper_.sensitivity(neighbouring::add_remove);
  }
  void drop_views() noexcept {
    for (auto& s : deferred_) s = {};
    waiting_rows_.release();
  }
  [[nodiscard]] samples everyone() const noexcept { return {0, current_.samples}; }
  [[nodiscard]] bool alone(isize g) const noexcept { return members_[static_cast<std::size_t>(g)].size() == 1; }
  [[nodiscard]] double* norms(isize g) noexcept {
    return squared_norms_.data() + shared_row_[static_cast<std::size_t>(g)] * current_.samples;
  }

  /// Norm and sum of a block of samples back to back, while its data is in cache.
  template <class S, class Done>
  void add_alone(isize p, isize g, const S& source, Done&& done) {
    if constexpr (WritesRowsFor<S, A>)
      if (source.rows_are_cheaper()) {
        add_rows(p, g, source);
        return done(p);
      }
    const isize block = std::clamp<isize>(source.block(), 1, std::max<isize>(1, current_.samples));
    double* const squared = norms(g);
    std::fill_n(squared, current_.samples, 0.0);
    for (isize first = 0; first < current_.samples; first += block) {
      const samples range{first, std::min(block, current_.samples - first)};
      source.add_squared_norms(range, squared + first, scratch_);
      compute_factors(g, range);
      add_to_sum(p, source, range, factors_.data() + first);
    }
    done(p);
  }

  /// The same from samples written out, a few at a time.
  template <class S>
  void add_rows(isize p, isize g, const S& source) {
    take_second_way(p, source);
    write_by_blocks(source, everyone(), [&](const auto* rows, samples range, const double* squares) {
      std::copy_n(squares, range.count, norms(g) + range.first);
      compute_factors(g, range);
      add_written(p, rows, source, range, factors_.data() + range.first);
    });
  }

  /// Writes `all` out in scratch memory, which is not to tell the batch's size; then(rows, range, their squared norms)
  /// sees each block.
  template <class S, class Then>
  void write_by_blocks(const S& source, samples all, Then&& then) {
    using row = typename A::row_type;
    const isize size = source.size(), block = rows_at_once<row>(size);
    const workspace::scope scope(scratch_);
    auto* const rows = scratch_.template take<row>(block * size);
    auto* const squares = scratch_.template take<double>(block);
    for (isize done = 0; done < all.count; done += block) {
      const samples range{all.first + done, std::min(block, all.count - done)};
      std::fill_n(squares, range.count, 0.0);
      sample_rows<row>(rows, size).write(source, range, squares, scratch_);
      then(rows, range, squares);
    }
  }

  /// Once, the memory of a sample whose row does not hold, so that no later step goes to the heap for the first of
  /// them.
  template <class S>
  void take_second_way(isize p, const S& source) {
    if (current_.samples == 0 || second_way_[static_cast<std::size_t>(p)]) return;
    double ignored = 0;
    source.add_squared_norms({0, 1}, &ignored, scratch_);
    second_way_[static_cast<std::size_t>(p)] = true;
  }

  /// Norms of a parameter whose factors wait for others'.
  template <class S>
  void add_norms(isize p, isize g, const S& source) {
    if constexpr (WritesRowsFor<S, A>)
      if (waiting_rows_.any_room() && source.rows_are_cheaper()) return add_norms_of_rows(p, g, source);
    source.add_squared_norms(everyone(), norms(g), scratch_);
  }

  template <class S>
  void add_norms_of_rows(isize p, isize g, const S& source) {
    using row = typename A::row_type;
    const isize size = source.size(), block = rows_at_once<row>(size);
    take_second_way(p, source);
    waiting_rows_.prepare(p, current_.samples, size);
    const isize kept = waiting_rows_.kept(p);
    for (isize first = 0; first < kept; first += block) {
      const samples range{first, std::min(block, kept - first)};
      const sample_rows<row> rows(waiting_rows_.rows(p) + first * size, size);
      rows.write(source, range, norms(g) + first, scratch_);
    }
    double* const noted = waiting_rows_.noted(p);
    write_by_blocks(source, {kept, current_.samples - kept}, [&](const row*, samples range, const double* squares) {
      std::copy_n(squares, range.count, noted + (range.first - kept));
      for (isize i = 0; i < range.count; ++i) norms(g)[range.first + i] += squares[i];
    });
  }

  /// The sum of a parameter whose norms came from rows.
  template <class S>
  void add_waiting_rows(isize p, const S& source) {
    using row = typename A::row_type;
    const isize kept = waiting_rows_.kept(p);
    add_written(p, std::as_const(waiting_rows_).rows(p), source, {0, kept}, factors_.data());
    const double* const noted = waiting_rows_.noted(p);
    write_by_blocks(source, {kept, current_.samples - kept}, [&](const row* rows, samples range, double* squares) {
      for (isize i = 0; i < range.count; ++i)
        squares[i] = factor_again(factors_[static_cast<std::size_t>(range.first + i)], noted[range.first - kept + i],
                                  squares[i]);
      add_written(p, rows, source, range, squares);
    });
    waiting_rows_.release(p);
  }

  /// Samples of `range`, of which rows[0] and factors[0] are the first, in their order, however they are answered.
  template <class V, class S>
  void add_written(isize p, const V* rows, const S& source, samples range, const double* factors) {
    const isize at = offsets_[static_cast<std::size_t>(p)];
    const sample_rows<const V> written(rows, source.size());
    for (isize i = 0, next = 0; i < range.count; i = next) {
      next = written.alike(i, range.count);
      if (written.holds(i)) sum_.add(at, written.source(range.count), {i, next - i}, factors + i, scratch_);
      else add_to_sum(p, source, {range.first + i, next - i}, factors + i);
    }
  }

  template <class Done>
  void count_down(isize g, Done&& done) {
    if (--waiting_[static_cast<std::size_t>(g)] > 0) return;
    compute_factors(g, everyone());
    for (const isize p : members_[static_cast<std::size_t>(g)]) {
      auto& source = deferred_[static_cast<std::size_t>(p)];
      if (source) add_waiting(p, std::exchange(source, {}));
      done(p);
    }
  }

  void add_waiting(isize p, const deferred_source<A>& source) {
    if constexpr (TakesRows<A>)
      if (waiting_rows_.wait(p)) return add_waiting_rows(p, source);
    add_to_sum(p, source, everyone(), factors_.data());
  }
  template <class S>
  void add_to_sum(isize p, const S& source, samples range, const double* factors) {
    sum_.add(offsets_[static_cast<std::size_t>(p)], source, range, factors, scratch_);
  }
  void add_to_sum(isize p, const deferred_source<A>& source, samples range, const double* factors) {
    source.add_to(sum_, offsets_[static_cast<std::size_t>(p)], range, factors, scratch_);
  }

  /// factor_i = rule(|w_i| norm_i) w_i with w_i = gradient_scale x weight; anything not finite gives 0.
  void compute_factors(isize g, samples range) {
    const double* const squared = norms(g);
    const isize members = std::ssize(members_[static_cast<std::size_t>(g)]);
    double* const factors = factors_.data() + range.first; // first the norms
    for (isize i = 0; i < range.count; ++i) {
      const double squares = squared[range.first + i];
      factors[i] = members > 1 ? upper_bound_of_sum(squares, members) : squares;
    }
    vectorized([this, g, range](auto width) DPOPT_FORCE_INLINE_LAMBDA { this->rule_on_norms(width, g, range); });
  }

  /// Squares in factors_ become factors. Everything that the loop reads is local, or it would be read anew after each
  /// factor.
  template <std::size_t Bytes>
  DPOPT_FORCE_INLINE void rule_on_norms(vector_bytes<Bytes> width, isize g, samples range) {
    DPOPT_NO_CONTRACT_BLOCK
    const auto rule = clipper_.rule(g);
    const double scale_of_all = current_.gradient_scale;
    const double* const weights = current_.weights ? current_.weights + range.first : nullptr;
    double* const factors = factors_.data() + range.first;
    square_roots(factors, range.count, width);
    private_counts seen; // counted in registers
    for (isize i = 0; i < range.count; ++i) {
      const double w = scale_of_all * (weights ? weights[i] : 1.0);
      ++seen.samples;
      double factor = 0;
      if (w != 0) { // weight 0 is a padding mask: the data may be anything
        const double norm = factors[i] * std::abs(w);
        const double scale = rule(norm);
        factor = scale * w;
        if (!std::isfinite(norm) || !std::isfinite(factor)) {
          factor = 0;
          ++seen.non_finite;
        } else {
          if (scale < 1) ++seen.clipped;
          if constexpr (LearningClipper<C>) clipper_.observe(g, norm, side_);
        }
      }
      factors[i] = factor;
    }
    counts_.samples += seen.samples;
    counts_.clipped += seen.clipped;
    counts_.non_finite += seen.non_finite;
  }

  C clipper_;
  A sum_;
  workspace scratch_;
  microbatch current_;
  std::vector<isize> offsets_;
  std::vector<std::vector<isize>> members_; // of each group, last registered first
  std::vector<isize> waiting_;              // parameters of each group whose norms are still missing
  std::vector<isize> shared_row_;           // row of squared_norms_ of each group
  isize rows_ = 1;
  std::vector<double> squared_norms_; // [rows x samples]
  std::vector<double> factors_;       // [samples]
  std::vector<deferred_source<A>> deferred_;
  waiting_rows<typename A::value_type> waiting_rows_;
  std::vector<bool> second_way_; // parameters whose source was once asked beside its rows
  private_counts counts_;
  std::vector<double> side_;
  isize total_ = 0;
};

} // namespace dpopt
