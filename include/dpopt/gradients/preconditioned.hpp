// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Per-sample gradients divided by a public preconditioner before they are clipped: "scale, then privatize" (Li et al.
/// 2022, arXiv 2212.00309, alg. 1; Ganesh et al. 2025, arXiv 2507.01129). Noise is then spread as the preconditioner
/// is: coordinates with small gradients get little of it.
#pragma once

#include "dpopt/gradients/linear_weight.hpp"
#include "dpopt/gradients/per_sample_gradients.hpp"
#include "dpopt/gradients/sample_tiles.hpp"

#include <concepts>
#include <span>
#include <string>

namespace dpopt {

/// g[k] / divisor[k], where a divisor of 0 stands for 1 ("not known yet", as the slots of an optimizer start). The
/// released gradient is that of the scaled coordinates: multiply it back (scale_then_privatize does) or take it as the
/// preconditioned direction.
///
/// Privacy: divisors are public, such as a function of earlier released gradients; never of this step's samples.
template <SampleAccess S, std::floating_point D>
struct preconditioned {
  S source;
  const D* divisors;
  isize divisor_count;

  /// @param by [size] stays alive and unchanged as long as the source is needed.
  preconditioned(S gradients, std::span<const D> by)
      : source(gradients), divisors(by.data()), divisor_count(std::ssize(by)) {}

  [[nodiscard]] isize batch() const noexcept { return source.batch(); }
  [[nodiscard]] isize size() const noexcept { return source.size(); }
  [[nodiscard]] isize block() const noexcept { return source.block(); }
  [[nodiscard]] isize sample_tile() const { return dpopt::sample_tile(source); }

  [[nodiscard]] std::string problem() const {
    if (std::string text = source_problem(source); !text.empty()) return text;
    if (divisor_count == source.size()) return {};
    return message("preconditioned: ", divisor_count, " divisors for ", source.size(),
                   " elements; give one an element");
  }

  void add_squared_norms(samples range, double* squared_norms, workspace& scratch) const {
    detail::add_copied_norms(*this, range, squared_norms, scratch);
  }
  template <std::floating_point Out>
  void add_weighted_sum(samples range, const double* factors, Out* out, workspace& scratch) const {
    detail::add_copied_sum(*this, range, factors, out, scratch);
  }

  void copy_sample(isize sample, isize first, isize count, double scale, double* out, workspace& scratch) const {
    detail::copy_part(source, sample, first, count, 1.0, out, scratch);
    const D* const d = divisors + first;
    for (isize k = 0; k < count; ++k) out[k] = scale * (d[k] == D(0) ? out[k] : out[k] / static_cast<double>(d[k]));
  }
  void copy_sample(isize sample, isize first, isize count, double scale, double* out) const {
    workspace scratch;
    copy_sample(sample, first, count, scale, out, scratch);
  }
};
template <class S, class D>
preconditioned(S, std::span<const D>) -> preconditioned<S, D>;

static_assert(PerSampleGradients<preconditioned<linear_weight<float>, float>, float>);
static_assert(SampleAccess<preconditioned<linear_weight<float>, double>>);

} // namespace dpopt
