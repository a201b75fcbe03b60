// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The weighted sum of a factored source as one matrix product: the shorter factor of each row is scaled on its way
/// into scratch memory, so that the product costs what the plain gradient's does (Bu et al. 2023, arXiv 2210.00038).
#pragma once

#include "dpopt/core/platform.hpp"
#include "dpopt/core/vector_dispatch.hpp"
#include "dpopt/gradients/per_sample_gradients.hpp"
#include "dpopt/gradients/product.hpp"

#include <algorithm>
#include <cmath>
#include <concepts>
#include <limits>
#include <type_traits>
#include <utility>

namespace dpopt {

/// What one position of one sample adds: factor x (output gradient) (input)^T.
template <class U>
struct outer_product {
  const U* input = nullptr;
  const U* output_gradient = nullptr;
  double factor = 0; ///< 0: nothing, and nothing is read
};

namespace detail {

/// to[k] = narrowed(factor x from[k]). A loop without branches, and the exact one only for rows that need it: ReLU
/// makes zeros, whose branches nobody can predict. True for those: numbers lost their last digits, or are too small.
template <class U, std::floating_point Out>
bool scale_row(const U* from, isize n, double factor, Out* to) {
  int unusual = 0;
  vectorized([=, &unusual]() DPOPT_FORCE_INLINE_LAMBDA {
    DPOPT_NO_CONTRACT_BLOCK
    for (isize k = 0; k < n; ++k) to[k] = static_cast<Out>(factor * static_cast<double>(from[k]));
    int any = 0; // below the normal numbers but not 0, beyond the largest, or NaN
    for (isize k = 0; k < n; ++k) {
      const Out magnitude = std::abs(to[k]);
      any |= static_cast<int>(magnitude < std::numeric_limits<Out>::min()) &
             static_cast<int>(static_cast<Out>(from[k]) != 0);
      any |= static_cast<int>(!(magnitude <= std::numeric_limits<Out>::max()));
    }
    unusual = any;
  });
  if (unusual != 0)
    for (isize k = 0; k < n; ++k) to[k] = narrowed<Out>(factor * static_cast<double>(from[k]));
  return unusual != 0;
}

/// The largest |x[k]|; NaN counts as 0.
template <class U>
[[nodiscard]] double largest_magnitude(const U* x, isize n) {
  constexpr isize chains = 16; // so that the compiler may use vectors
  using wide = std::conditional_t<(sizeof(U) > sizeof(float)), double, float>;
  wide largest[chains] = {};
  vectorized([=, &largest]() DPOPT_FORCE_INLINE_LAMBDA {
    isize k = 0;
    for (; k + chains <= n; k += chains)
      for (isize j = 0; j < chains; ++j) {
        const wide magnitude = std::abs(static_cast<wide>(x[k + j]));
        largest[j] = magnitude > largest[j] ? magnitude : largest[j];
      }
    for (; k < n; ++k) largest[0] = std::max(largest[0], std::abs(static_cast<wide>(x[k])));
  });
  return static_cast<double>(*std::max_element(largest, largest + chains));
}

/// out[i * s_apart + k * l_apart] += factor x s[i] x l[k], balanced between the two so that neither is lost. A row of
/// an adversary's, by and large: slow.
template <class U, std::floating_point Out>
void add_in_double(const U* s, isize shorter, const U* l, isize longer, double factor, double largest, Out* out,
                   isize s_apart, isize l_apart) {
  const int exponent = largest > 0 ? std::ilogb(largest) : 0;
  const double up = std::ldexp(factor, exponent);
  for (isize i = 0; i < shorter; ++i) {
    const double scaled = up * static_cast<double>(s[i]);
    for (isize k = 0; k < longer; ++k)
      out[i * s_apart + k * l_apart] += static_cast<Out>(scaled * std::ldexp(static_cast<double>(l[k]), -exponent));
  }
}

} // namespace detail

/// out[outputs x inputs] += the sum of at(0), ..., at(count - 1), in this order, for any source whose gradients are
/// sums of outer products. Rows of factor 0 are left out, not multiplied: their data may be NaN. A row that a factor
/// takes out of the range of Out while its other half brings it back is added in double, in its turn. Memory: scaled
/// rows, an eighth of the parameter or 64 rows, whatever is left out.
template <class U, std::floating_point Out, MatrixProduct<Out> Product, class At>
  requires std::is_same_v<product_type<U, Out>, Out>
void add_outer_products(const Product& product, isize count, isize inputs, isize outputs, const At& at, Out* out,
                        workspace& scratch) {
  if (inputs == 0 || outputs == 0) return; // no room to share below
  constexpr isize most = 256, least = 64, least_copied = 16;
  const bool scale_outputs = outputs <= inputs;
  const isize shorter = scale_outputs ? outputs : inputs;
  const isize longer = scale_outputs ? inputs : outputs;
  const isize chunk = std::clamp(longer / 8, least, most);
  const isize room = std::max(chunk * shorter, least_copied * (shorter + longer));
  const workspace::scope scope(scratch);
  Out* const scaled = scratch.take<Out>(room);
  const strided_rows<Out> sum{out, inputs};
  product.add(outputs, inputs, 0, strided_rows<const Out>{scaled, outputs}, strided_rows<const Out>{scaled, inputs},
              sum,
              scratch); // takes its memory, also where all rows are left out and a later step's are not
  const U* from[most];
  const U* whole[most];
  double factors[most];
  isize filled = 0;

  const auto multiply = [&](isize first, isize rows, strided_rows<const Out> of_longer) {
    const strided_rows<const Out> of_shorter{scaled + first * shorter, shorter};
    const strided_rows<const Out> rest{of_longer.row(first), of_longer.stride};
    if (scale_outputs) product.add(outputs, inputs, rows, of_shorter, rest, sum, scratch);
    else product.add(outputs, inputs, rows, rest, of_shorter, sum, scratch);
  };
  const auto add = [&](isize first, isize rows, strided_rows<const Out> of_longer) {
    isize done = 0;
    for (isize i = 0; i < rows; ++i) {
      const isize at_row = first + i;
      if (!detail::scale_row(from[at_row], shorter, factors[at_row], scaled + i * shorter)) continue;
      const double largest = detail::largest_magnitude(whole[at_row], longer);
      const bool beyond = factors[at_row] * detail::largest_magnitude(from[at_row], shorter) >
                          static_cast<double>(std::numeric_limits<Out>::max());
      if (largest <= enlarges_losses && !beyond) continue;
      if (i > done) multiply(done, i - done, of_longer);
      detail::add_in_double(from[at_row], shorter, whole[at_row], longer, factors[at_row], largest, out,
                            scale_outputs ? inputs : 1, scale_outputs ? 1 : inputs);
      done = i + 1;
    }
    if (rows > done) multiply(done, rows - done, of_longer);
  };
  const auto flush = [&] {
    const isize rows = std::exchange(filled, 0);
    if (rows == 0) return;
    if constexpr (std::is_same_v<U, Out>) { // where they lie: evenly spaced and of the right type
      const isize stride = rows > 1 ? whole[1] - whole[0] : longer;
      bool in_place = stride >= longer;
      for (isize i = 1; i < rows && in_place; ++i) in_place = whole[i] - whole[i - 1] == stride;
      if (in_place) return add(0, rows, {whole[0], stride});
    }
    const isize copied = std::min(chunk, room / (shorter + longer)); // both factors share the room
    for (isize first = 0; first < rows; first += copied) {
      const isize part = std::min(copied, rows - first);
      Out* const copy = scaled + part * shorter;
      for (isize i = 0; i < part; ++i)
        for (isize k = 0; k < longer; ++k) copy[i * longer + k] = static_cast<Out>(whole[first + i][k]);
      add(first, part, {copy, longer});
    }
  };

  for (isize i = 0; i < count; ++i) {
    const outer_product<U> one = at(i);
    if (one.factor == 0) continue;
    factors[filled] = rounded_down<Out, double>(one.factor); // may fit Out only once multiplied
    from[filled] = scale_outputs ? one.output_gradient : one.input;
    whole[filled++] = scale_outputs ? one.input : one.output_gradient;
    if (filled == chunk) flush();
  }
  flush();
}

} // namespace dpopt
