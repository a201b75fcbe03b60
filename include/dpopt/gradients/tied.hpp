// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// One parameter that a model uses twice (an embedding that is also the output layer): the gradient of a sample is the
/// sum of both uses' gradients, and its norm has a cross term: |A + B|^2 = |A|^2 + |B|^2 + 2 A.B.
#pragma once

#include "dpopt/gradients/linear_weight.hpp"
#include "dpopt/gradients/per_sample_gradients.hpp"
#include "dpopt/gradients/sample_tiles.hpp"

#include <algorithm>
#include <string>

namespace dpopt {

/// A + B for each sample; more uses nest: tied{tied{a, b}, c}. Both must hold the same samples in the same order and
/// have the parameter's size, which gradient_ready checks. Clipping the uses one by one, or adding the squares of their
/// norms, would let a sample add up to twice its bound.
/// Cost: every sample's gradient is written out tile by tile, once for the norm and once for the sum.
template <SampleAccess A, SampleAccess B>
struct tied {
  A first_use;
  B second_use;

  [[nodiscard]] isize batch() const noexcept { return first_use.batch(); }
  [[nodiscard]] isize size() const noexcept { return first_use.size(); }
  [[nodiscard]] isize block() const noexcept {
    return std::max<isize>(1, std::min(first_use.block(), second_use.block()));
  }
  [[nodiscard]] isize sample_tile() const {
    return std::max(dpopt::sample_tile(first_use), dpopt::sample_tile(second_use));
  }

  /// Says nothing of numbers of samples, which are private.
  [[nodiscard]] std::string problem() const {
    std::string text = source_problem(first_use);
    if (text.empty()) text = source_problem(second_use);
    if (text.empty() && first_use.batch() != second_use.batch())
      text = "tied: the two uses hold different numbers of samples; give both the same samples in the same order";
    if (text.empty() && first_use.size() != second_use.size())
      text = message("tied: the first use holds ", first_use.size(), " elements a sample, the second ",
                     second_use.size(), "; both must have the parameter's shape");
    return text;
  }

  void add_squared_norms(samples range, double* squared_norms, workspace& scratch) const {
    detail::add_copied_norms(*this, range, squared_norms, scratch);
  }
  template <std::floating_point Out>
  void add_weighted_sum(samples range, const double* factors, Out* out, workspace& scratch) const {
    detail::add_copied_sum(*this, range, factors, out, scratch);
  }

  /// The scale comes last: before the sum its roundings would be relative to the uses and not to what is left of them.
  void copy_sample(isize sample, isize first, isize count, double scale, double* out, workspace& scratch) const {
    const workspace::scope scope(scratch);
    double* const second = scratch.take<double>(count);
    detail::copy_part(first_use, sample, first, count, 1.0, out, scratch);
    detail::copy_part(second_use, sample, first, count, 1.0, second, scratch);
    for (isize k = 0; k < count; ++k) out[k] = scale * (out[k] + second[k]);
  }
  void copy_sample(isize sample, isize first, isize count, double scale, double* out) const {
    workspace scratch;
    copy_sample(sample, first, count, scale, out, scratch);
  }
};
template <class A, class B>
tied(A, B) -> tied<A, B>;

static_assert(PerSampleGradients<tied<linear_weight<float>, linear_weight<float>>, float>);
static_assert(SampleAccess<tied<linear_weight<float>, linear_weight<float>>>);
static_assert(CheckedSource<tied<linear_weight<float>, linear_weight<float>>>);

} // namespace dpopt
