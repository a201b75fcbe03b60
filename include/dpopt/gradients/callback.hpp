// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// A source that asks a function of yours for one sample's gradient: for a layer that nobody has written a source for.
#pragma once

#include "dpopt/gradients/per_sample_gradients.hpp"
#include "dpopt/gradients/sample_tiles.hpp"

#include <algorithm>
#include <concepts>
#include <type_traits>

namespace dpopt {

/// Calls `write(context, sample, gradient)`, which fills gradient[0 .. size) with the unclipped gradient of one sample,
/// 0 <= sample < batch. No [batch x size] array is ever made. The function is asked for a sample twice a step, for the
/// norm and for the sum, possibly long after gradient_ready returned and in any order.
///
/// Privacy: it must give the same numbers both times; random numbers (dropout, augmentation) come from a seed of the
/// sample. The bound holds for the numbers that were measured. An exception is reported by step() on all ranks.
/// Cost: the integer grid and combinations of sources ask for parts of a gradient, which are cut out of the whole one.
struct callback {
  using function = void (*)(void* context, isize sample, double* gradient);
  function write = nullptr;
  void* context = nullptr;
  isize samples_ = 0;
  isize elements = 0;

  callback() = default;
  callback(function f, void* its_context, isize batch, isize size)
      : write(f), context(its_context), samples_(batch), elements(size) {}

  /// @param f callable as f(sample, gradient); stays alive as long as the view, of which it is no part.
  template <class F>
    requires std::invocable<F&, isize, double*>
  callback(F& f, isize batch, isize size)
      : callback([](void* c, isize sample, double* gradient) { (*static_cast<F*>(c))(sample, gradient); }, &f, batch,
                 size) {}

  [[nodiscard]] isize batch() const noexcept { return samples_; }
  [[nodiscard]] isize size() const noexcept { return elements; }
  [[nodiscard]] isize block() const noexcept { return 1; }
  [[nodiscard]] isize sample_tile() const noexcept { return elements; } // the function makes nothing less

  void add_squared_norms(samples range, double* squared_norms, workspace& scratch) const {
    detail::add_copied_norms(*this, range, squared_norms, scratch);
  }
  template <std::floating_point Out>
  void add_weighted_sum(samples range, const double* factors, Out* out, workspace& scratch) const {
    detail::add_copied_sum(*this, range, factors, out, scratch);
  }

  void copy_sample(isize sample, isize first, isize count, double scale, double* out, workspace& scratch) const {
    if (count == elements) {
      if (count > 0) write(context, sample, out);
    } else {
      const workspace::scope scope(scratch);
      double* const whole = scratch.take<double>(elements);
      write(context, sample, whole);
      std::copy_n(whole + first, count, out);
    }
    for (isize k = 0; k < count; ++k) out[k] *= scale;
  }
  void copy_sample(isize sample, isize first, isize count, double scale, double* out) const {
    workspace scratch;
    copy_sample(sample, first, count, scale, out, scratch);
  }
};

static_assert(PerSampleGradients<callback, float> && PerSampleGradients<callback, double> && SampleAccess<callback>);

} // namespace dpopt
