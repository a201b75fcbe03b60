// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The table of an embedding layer, never dense: a sample's gradient is zero but for the rows of its tokens, and the
/// row of a token is the sum of the output gradients of all positions that hold it.
#pragma once

#include "dpopt/core/vector_dispatch.hpp"
#include "dpopt/gradients/per_sample_gradients.hpp"
#include "dpopt/gradients/sample_tiles.hpp"
#include "dpopt/gradients/stride_check.hpp"
#include "dpopt/gradients/token_check.hpp"

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <string>

namespace dpopt {

/// The table is row-major [vocabulary x dimension]; tokens are [batch x positions], output gradients [batch x positions
/// x dimension], dense unless the strides are changed (in elements; time-major data swap both pairs; a
/// token_sample_stride of 0 is one list for all samples, such as positions). Positions that hold padding_index have no
/// part in the gradient and are not read; it may lie outside of the vocabulary.
///
/// Privacy: a repeated token's rows are added before the norm is taken: the norm of the sum can be as much as the
/// number of repeats times that of one row, and adding the squares of the rows would let a sample add more than its
/// bound. The rows are summed in double, and the norm is of the very numbers that are added.
/// Cost: O(positions (dimension + log positions)) a sample for the norm and again for the sum; no memory with
/// vocabulary in its size. Only the integer grid and combinations of sources write whole rows of zeros, tile by tile.
template <class U, std::signed_integral Token = std::int32_t>
struct embedding {
  static constexpr isize no_padding = std::numeric_limits<isize>::min();

  const Token* tokens = nullptr;
  const U* output_gradients = nullptr;
  isize samples_ = 0;
  isize positions = 0;
  isize vocabulary = 0;
  isize dimension = 0;
  isize padding_index = no_padding;
  isize token_sample_stride = 0, token_position_stride = 0;
  isize gradient_sample_stride = 0, gradient_position_stride = 0;

  embedding() = default;
  embedding(const Token* indices, const U* gradients, isize batch, isize positions_each, isize vocabulary_size,
            isize embedding_dimension, isize padding = no_padding)
      : tokens(indices), output_gradients(gradients), samples_(batch), positions(positions_each),
        vocabulary(vocabulary_size), dimension(embedding_dimension), padding_index(padding),
        token_sample_stride(positions), token_position_stride(1), gradient_sample_stride(positions * dimension),
        gradient_position_stride(dimension) {}

  [[nodiscard]] isize batch() const noexcept { return samples_; }
  [[nodiscard]] isize size() const noexcept { return vocabulary * dimension; }
  [[nodiscard]] isize block() const noexcept {
    return samples_in_cache(positions * dimension * static_cast<isize>(sizeof(U)));
  }

  [[nodiscard]] std::string problem() const {
    if (std::string text = layout_problem(); !text.empty()) return text;
    return detail::token_problem("embedding", samples_, positions, vocabulary, padding_index,
                                 [this](isize i, isize t) { return token(i, t); });
  }

  /// problem() of the extents and strides alone: it reads neither tokens nor gradients.
  [[nodiscard]] std::string layout_problem() const {
    constexpr isize most = std::numeric_limits<std::int32_t>::max();
    if (samples_ < 0 || positions < 0 || dimension < 0)
      return "embedding: a negative number of samples, positions or dimensions; give 0 or more";
    if (vocabulary < 0 || vocabulary > most || positions > most)
      return message("embedding: a vocabulary of ", vocabulary, " over ", positions,
                     " positions; each must be from 0 to ", most);
    using extent = detail::dimension_extent;
    if (token_sample_stride != 0 &&
        !detail::samples_apart({samples_, token_sample_stride}, std::array{extent{positions, token_position_stride}}))
      return detail::overlap_problem("embedding", "the token strides let");
    const bool apart =
        detail::samples_apart({samples_, gradient_sample_stride},
                              std::array{extent{positions, gradient_position_stride}, extent{dimension, 1}});
    return apart ? std::string() : detail::overlap_problem("embedding", "the gradient strides let");
  }

  void add_squared_norms(samples range, double* squared_norms, workspace& scratch) const {
    for (isize i = 0; i < range.count; ++i) {
      double squares = 0;
      isize rows = 0;
      for_each_token(
          range.first + i, scratch, [&](isize, const U* row) { squares += squares_of(row), ++rows; },
          [&](isize, const double* sum) { squares += squares_of(sum), ++rows; });
      squared_norms[i] += upper_bound_of_sum(squares, rows);
    }
  }

  template <std::floating_point Out>
  void add_weighted_sum(samples range, const double* factors, Out* out, workspace& scratch) const {
    using product = product_type<U, Out>;
    for (isize i = 0; i < range.count; ++i) {
      if (factors[i] == 0) continue;
      const double factor = rounded_down<Out, double>(factors[i]);
      const product narrow = rounded_down<Out, product>(factors[i]);
      for_each_token(
          range.first + i, scratch, [&](isize v, const U* row) { add_row(row, narrow, out + v * dimension); },
          [&](isize v, const double* sum) { add_row(sum, factor, out + v * dimension); });
    }
  }

  /// Positions are added in their order, as in the questions above.
  void copy_sample(isize sample, isize first, isize count, double scale, double* out) const {
    std::fill_n(out, count, 0.0);
    for (isize t = 0; t < positions; ++t) {
      const isize v = token(sample, t);
      if (v == padding_index) continue;
      const isize begin = std::max(first, v * dimension);
      const isize end = std::min(first + count, (v + 1) * dimension);
      const U* const row = gradient(sample, t);
      for (isize k = begin; k < end; ++k) out[k - first] += static_cast<double>(row[k - v * dimension]);
    }
    for (isize k = 0; k < count; ++k) out[k] *= scale;
  }

private:
  [[nodiscard]] isize token(isize i, isize t) const noexcept {
    return static_cast<isize>(tokens[i * token_sample_stride + t * token_position_stride]);
  }
  [[nodiscard]] const U* gradient(isize i, isize t) const noexcept {
    return output_gradients + i * gradient_sample_stride + t * gradient_position_stride;
  }

  template <class V>
  [[nodiscard]] double squares_of(const V* x) const {
    double squares = 0;
    vectorized([x, n = dimension, &squares]() DPOPT_FORCE_INLINE_LAMBDA { squares = squared_norm(x, n); });
    return squares;
  }
  template <class V, class P, class To>
  void add_row(const V* x, P factor, To* to) const {
    vectorized([=, n = dimension]() DPOPT_FORCE_INLINE_LAMBDA {
      DPOPT_NO_CONTRACT_BLOCK
      for (isize k = 0; k < n; ++k) to[k] += static_cast<To>(factor * static_cast<P>(x[k]));
    });
  }

  /// Calls once(token, row) for a token that one position holds, and repeated(token, sum of rows) for others.
  template <class Once, class Repeated>
  void for_each_token(isize i, workspace& scratch, const Once& once, const Repeated& repeated) const {
    const workspace::scope scope(scratch);
    auto* const keys = scratch.take<std::uint64_t>(positions); // token above, position below: sorts by both
    double* const sum = scratch.take<double>(dimension);
    isize n = 0;
    for (isize t = 0; t < positions; ++t)
      if (const isize v = token(i, t); v != padding_index)
        keys[n++] = static_cast<std::uint64_t>(v) << 32 | static_cast<std::uint64_t>(t);
    std::sort(keys, keys + n);
    for (isize begin = 0, end = 0; begin < n; begin = end) {
      const std::uint64_t v = keys[begin] >> 32;
      for (end = begin + 1; end < n && keys[end] >> 32 == v; ++end) {
      }
      const auto row = [&](isize at) { return gradient(i, static_cast<isize>(keys[at] & 0xffffffffu)); };
      if (end == begin + 1) {
        once(static_cast<isize>(v), row(begin));
        continue;
      }
      std::fill_n(sum, dimension, 0.0);
      for (isize at = begin; at < end; ++at) add_row(row(at), 1.0, sum);
      repeated(static_cast<isize>(v), sum);
    }
  }
};

static_assert(PerSampleGradients<embedding<float>, float> && SampleAccess<embedding<float, std::int64_t>>);
static_assert(CheckedSource<embedding<float>>);

} // namespace dpopt
