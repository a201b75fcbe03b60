// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The weight of a linear layer, never materialized: the gradient of a sample is the outer product of its output
/// gradient and its input, so its norm is the product of two vector norms (Goodfellow 2015, arXiv 1510.01799)
/// and the weighted sum is the plain gradient product with scaled rows (Bu et al. 2023, arXiv 2210.00038, alg. 1).
#pragma once

#include "dpopt/gradients/outer_products.hpp"
#include "dpopt/gradients/per_sample_gradients.hpp"
#include "dpopt/gradients/product.hpp"
#include "dpopt/gradients/row_norms.hpp"
#include "dpopt/gradients/stride_check.hpp"

#include <algorithm>
#include <array>
#include <limits>
#include <string>
#include <type_traits>

namespace dpopt {

/// y = W x with W row-major [outputs x inputs]. activations: [batch x inputs], output_gradients: [batch x outputs],
/// rows dense unless the strides (in elements) are changed; the numbers of a row are neighbours. An input_stride of 0
/// is one row for all samples. One position a sample; more of them are linear_sequence's. The bias of the layer is a
/// source of its own: materialized<U>(output_gradients, batch, outputs).
template <class U, class Product = portable_product>
struct linear_weight {
  const U* activations = nullptr;
  const U* output_gradients = nullptr;
  isize samples_ = 0;
  isize inputs = 0;
  isize outputs = 0;
  isize input_stride = inputs;
  isize output_stride = outputs;

  [[nodiscard]] isize batch() const noexcept { return samples_; }
  [[nodiscard]] isize size() const noexcept { return inputs * outputs; }
  [[nodiscard]] isize block() const noexcept { return samples_ > 0 ? samples_ : 1; } // factors cost nothing to re-read

  [[nodiscard]] std::string problem() const {
    if (samples_ < 0 || inputs < 0 || outputs < 0)
      return "linear_weight: a negative number of samples, inputs or outputs; give 0 or more";
    const auto apart = [this](isize stride, isize width) {
      return detail::samples_apart({samples_, stride}, std::array{detail::dimension_extent{width, 1}});
    };
    if (input_stride != 0 && !apart(input_stride, inputs))
      return detail::overlap_problem("linear_weight", "input_stride lets");
    if (!apart(output_stride, outputs)) return detail::overlap_problem("linear_weight", "output_stride lets");
    return {};
  }

  void add_squared_norms(samples range, double* squared_norms, workspace&) const {
    constexpr isize together = 64;
    for (isize first = 0; first < range.count; first += together) {
      const isize count = std::min(together, range.count - first);
      std::array<double, together> of_inputs{}, of_outputs{};
      add_row_norms(input(range.first + first), input_stride, count, inputs, of_inputs.data());
      add_row_norms(output(range.first + first), output_stride, count, outputs, of_outputs.data());
      for (isize i = 0; i < count; ++i) {
        const double a = of_inputs[static_cast<std::size_t>(i)];
        const double e = of_outputs[static_cast<std::size_t>(i)];
        double product = a * e;
        if (product < underflow_matters_below && a > 0 && e > 0) product += std::numeric_limits<double>::denorm_min();
        squared_norms[first + i] += upper_bound_of_sum(product, 1);
      }
    }
  }

  template <std::floating_point Out>
  void add_weighted_sum(samples range, const double* factors, Out* out, workspace& scratch) const {
    if constexpr (std::is_same_v<product_type<U, Out>, Out>)
      add_outer_products<U>(
          Product{}, range.count, inputs, outputs,
          [&](isize i) {
            return outer_product<U>{input(range.first + i), output(range.first + i), factors[i]};
          },
          out, scratch);
    else // numbers wider than their sum may only fit once multiplied
      for (isize i = 0; i < range.count; ++i) {
        if (factors[i] == 0) continue;
        const double factor = rounded_down<Out, double>(factors[i]);
        const U* a = input(range.first + i);
        const U* e = output(range.first + i);
        for (isize o = 0; o < outputs; ++o) {
          const double scaled = narrowed<double>(factor * static_cast<double>(e[o]));
          Out* row = out + o * inputs;
          for (isize k = 0; k < inputs; ++k) row[k] += static_cast<Out>(scaled * static_cast<double>(a[k]));
        }
      }
  }

  void copy_sample(isize sample, isize first, isize count, double scale, double* out) const {
    const U* a = input(sample);
    const U* e = output(sample);
    for (isize k = 0; k < count; ++k) {
      const isize at = first + k;
      out[k] = scale * static_cast<double>(e[at / inputs]) * static_cast<double>(a[at % inputs]);
    }
  }

private:
  [[nodiscard]] const U* input(isize i) const noexcept { return activations + i * input_stride; }
  [[nodiscard]] const U* output(isize i) const noexcept { return output_gradients + i * output_stride; }
};

static_assert(PerSampleGradients<linear_weight<float>, float> && SampleAccess<linear_weight<float>>);
static_assert(CheckedSource<linear_weight<double>>);

} // namespace dpopt
