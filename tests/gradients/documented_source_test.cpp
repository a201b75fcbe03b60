// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
//
// The source that docs/gradients.md shows as one for a layer of the reader's. tools/check_readme compares the two.
#include "dpopt/gradients/per_sample_gradients.hpp"
#include "support/random_numbers.hpp"
#include "support/source_conformance.hpp"

#include <concepts>
#include <cstddef>
#include <vector>

using namespace dpopt;
using namespace dpopt::test;

namespace {

struct elementwise_weight {                // a sample's gradient is e_k a_k
  const float* inputs = nullptr;           // [samples x width]
  const float* output_gradients = nullptr; // likewise
  dpopt::isize samples_ = 0;
  dpopt::isize width = 0;

  dpopt::isize batch() const { return samples_; }
  dpopt::isize size() const { return width; }
  dpopt::isize block() const { return 64; } // samples whose data stay in cache between the questions

  double gradient(dpopt::isize i, dpopt::isize k) const { // exact: a product of floats fits a double
    return static_cast<double>(output_gradients[i * width + k]) * static_cast<double>(inputs[i * width + k]);
  }
  void add_squared_norms(dpopt::samples range, double* squared_norms, dpopt::workspace&) const {
    for (dpopt::isize i = 0; i < range.count; ++i) {
      double sum = 0;
      for (dpopt::isize k = 0; k < width; ++k) sum += gradient(range.first + i, k) * gradient(range.first + i, k);
      squared_norms[i] += dpopt::upper_bound_of_sum(sum, width); // rounding included
    }
  }
  template <std::floating_point Out>
  void add_weighted_sum(dpopt::samples range, const double* factors, Out* out, dpopt::workspace&) const {
    for (dpopt::isize i = 0; i < range.count; ++i) {
      if (factors[i] == 0) continue; // dropped: its data may be NaN
      const double factor = dpopt::rounded_down<Out, double>(factors[i]);
      for (dpopt::isize k = 0; k < width; ++k) out[k] += static_cast<Out>(factor * gradient(range.first + i, k));
    }
  }
};
static_assert(dpopt::PerSampleGradients<elementwise_weight, float>);

} // namespace

TEST_CASE("the documentation's source of one's own keeps what sources promise") {
  const isize batch = 7, width = 9;
  const auto x = random_numbers<float>(batch * width, 1);
  const auto e = random_numbers<float>(batch * width, 2);
  written_out rows(static_cast<std::size_t>(batch));
  for (isize i = 0; i < batch; ++i)
    for (isize k = 0; k < width; ++k) {
      const auto at = static_cast<std::size_t>(i * width + k);
      rows[static_cast<std::size_t>(i)].push_back(static_cast<long double>(x[at]) * static_cast<long double>(e[at]));
    }
  source_conforms(elementwise_weight{x.data(), e.data(), batch, width}, rows);
}
