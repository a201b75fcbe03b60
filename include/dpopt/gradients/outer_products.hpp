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
/// makes zeros, whose branches nobody can predict.
template <class U, std::floating_point Out>
void scale_row(const U* from, isize n, double factor, Out* to) {
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
}

} // namespace detail

/// out[outputs x inputs] += the sum of at(0), ..., at(count - 1), in this order, for any source whose gradients are
/// sums of outer products. Rows of factor 0 are left out, not multiplied: their data may be NaN. Memory: scaled rows,
/// an eighth of the parameter or 64 rows, whatever is left out.
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

  const auto add = [&](isize first, isize rows, strided_rows<const Out> of_longer) {
    for (isize i = 0; i < rows; ++i)
      detail::scale_row(from[first + i], shorter, factors[first + i], scaled + i * shorter);
    const strided_rows<const Out> of_shorter{scaled, shorter};
    if (scale_outputs) product.add(outputs, inputs, rows, of_shorter, of_longer, sum, scratch);
    else product.add(outputs, inputs, rows, of_longer, of_shorter, sum, scratch);
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
