// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The weight of an embedding that is also the output layer, never materialized: a sample's gradient is the sum of what
/// its tokens look up and of what its logits multiply, and its norm has their cross term.
#pragma once

#include "dpopt/gradients/outer_products.hpp"
#include "dpopt/gradients/per_sample_gradients.hpp"
#include "dpopt/gradients/product.hpp"
#include "dpopt/gradients/sample_tiles.hpp"
#include "dpopt/gradients/sequence_norm.hpp"
#include "dpopt/gradients/stride_check.hpp"
#include "dpopt/gradients/token_check.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <concepts>
#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>

namespace dpopt {

/// W is row-major [vocabulary x dimension]; x_s = W[token_s] and logits_t = W h_t. Per sample: tokens [positions] with
/// the gradients of what was looked up [positions x dimension]; activations h [output_positions x dimension] with the
/// gradients of the logits [output_positions x vocabulary]. All are dense, samples first, or positions first with
/// time_major, unless the strides are changed (in elements); the numbers of a row are neighbours. Strides of 0 between
/// samples are allowed for tokens and activations: one list for all samples. Positions that hold padding_index look
/// nothing up and are not read.
///
/// A token's row is an outer product too, e_s with a single one at the token, so that the norm is that of a sequence of
/// both kinds of positions, with all cross terms: |G|^2 = sum over s, t of (e_s . e_t)(a_s . a_t). Privacy and rounding
/// are as in linear_sequence, positions of both kinds counted.
/// Cost with n positions of both kinds: the sum one product a sample and the tokens' rows; the norm about T^2
/// vocabulary / 2 + n^2 dimension / 2, or T vocabulary dimension where that is less. No memory in the size of W.
template <class U, std::signed_integral Token = std::int32_t, class Product = portable_product>
struct tied_embedding {
  static constexpr isize no_padding = std::numeric_limits<isize>::min();

  const Token* tokens = nullptr;
  const U* lookup_gradients = nullptr;
  const U* activations = nullptr;
  const U* logit_gradients = nullptr;
  isize samples_ = 0;
  isize positions = 0;
  isize output_positions = 0;
  isize vocabulary = 0;
  isize dimension = 0;
  isize padding_index = no_padding;
  bool time_major = false;
  isize token_sample_stride = time_major ? 1 : positions;
  isize token_position_stride = time_major ? samples_ : 1;
  isize lookup_sample_stride = (time_major ? 1 : positions) * dimension;
  isize lookup_position_stride = (time_major ? samples_ : 1) * dimension;
  isize activation_sample_stride = (time_major ? 1 : output_positions) * dimension;
  isize activation_position_stride = (time_major ? samples_ : 1) * dimension;
  isize logit_sample_stride = (time_major ? 1 : output_positions) * vocabulary;
  isize logit_position_stride = (time_major ? samples_ : 1) * vocabulary;

  [[nodiscard]] isize batch() const noexcept { return samples_; }
  [[nodiscard]] isize size() const noexcept { return vocabulary * dimension; }
  [[nodiscard]] isize block() const noexcept { return std::max<isize>(1, samples_); }

  [[nodiscard]] std::string problem() const {
    if (samples_ < 0 || positions < 0 || output_positions < 0 || vocabulary < 0 || dimension < 0)
      return "tied_embedding: a negative number of samples, positions, tokens or dimensions; give 0 or more";
    const auto apart = [this](isize sample_stride, isize each, isize position_stride, isize width) {
      return detail::samples_apart(
          {samples_, sample_stride},
          std::array{detail::dimension_extent{each, position_stride}, detail::dimension_extent{width, 1}});
    };
    if (token_sample_stride != 0 && !apart(token_sample_stride, positions, token_position_stride, 1))
      return detail::overlap_problem("tied_embedding", "the token strides let");
    if (!apart(lookup_sample_stride, positions, lookup_position_stride, dimension))
      return detail::overlap_problem("tied_embedding", "the lookup strides let");
    if (activation_sample_stride != 0 &&
        !apart(activation_sample_stride, output_positions, activation_position_stride, dimension))
      return detail::overlap_problem("tied_embedding", "the activation strides let");
    if (!apart(logit_sample_stride, output_positions, logit_position_stride, vocabulary))
      return detail::overlap_problem("tied_embedding", "the logit strides let");
    return detail::token_problem("tied_embedding", samples_, positions, vocabulary, padding_index,
                                 [this](isize i, isize t) { return token(i, t); });
  }

  void add_squared_norms(samples range, double* squared_norms, workspace& scratch) const {
    const bool by_gram =
        positions + output_positions <= 1024 && detail::gram_is_cheaper(output_positions, dimension, vocabulary);
    if (by_gram) // of all positions, however many are padding
      detail::take_for_either_way(
          scratch, positions + std::max(tile_of_rows(), detail::gram_room(positions + output_positions)));
    for (isize i = 0; i < range.count; ++i) squared_norms[i] += squared_norm_of(range.first + i, by_gram, scratch);
  }

  /// One sample's upper bound, by the way that is asked for if rounding permits.
  [[nodiscard]] double squared_norm_of(isize sample, bool by_gram, workspace& scratch) const {
    const workspace::scope scope(scratch);
    isize* const held = scratch.take<isize>(positions); // the positions that are no padding
    isize n = 0;
    for (isize s = 0; s < positions; ++s)
      if (token(sample, s) != padding_index) held[n++] = s;
    detail::sequence_squares g;
    if (by_gram) g = gram_squares(sample, held, n, scratch);
    if (!(g.squares >= 0)) g = instantiated_squares(sample, held, n, scratch);
    return detail::squares_as_added<U>(g, output_positions + n);
  }

  template <std::floating_point Out>
  void add_weighted_sum(samples range, const double* factors, Out* out, workspace& scratch) const {
    if constexpr (!std::is_same_v<product_type<U, Out>, Out>) {
      detail::add_copied_sum(*this, range, factors, out, scratch);
    } else {
      for (isize j = 0; j < range.count; ++j) { // one by one: the same bits for every split of a batch
        if (factors[j] == 0) continue;
        const isize i = range.first + j;
        add_outer_products<U>(
            Product{}, output_positions, dimension, vocabulary,
            [&](isize t) {
              return outer_product<U>{activation(i, t), logits(i, t), factors[j]};
            },
            out, scratch);
        const double factor = rounded_down<Out, double>(factors[j]); // what logits cancel must not lose digits
        for (isize s = 0; s < positions; ++s) {
          const isize v = token(i, s);
          if (v == padding_index) continue;
          const U* const from = lookup(i, s);
          Out* const to = out + v * dimension;
          for (isize k = 0; k < dimension; ++k) to[k] += static_cast<Out>(factor * static_cast<double>(from[k]));
        }
      }
    }
  }

  void copy_sample(isize sample, isize first, isize count, double scale, double* out) const {
    std::fill_n(out, count, 0.0);
    for (isize at = 0; at < count;) { // a token's row, or what was asked of it, at a time
      const isize v = (first + at) / dimension, from = (first + at) % dimension;
      const isize n = std::min(dimension - from, count - at);
      for (isize t = 0; t < output_positions; ++t) {
        const double e = static_cast<double>(logits(sample, t)[v]);
        const U* const h = activation(sample, t) + from;
        for (isize k = 0; k < n; ++k) out[at + k] += e * static_cast<double>(h[k]);
      }
      for (isize s = 0; s < positions; ++s)
        if (token(sample, s) == v && v != padding_index)
          for (isize k = 0; k < n; ++k) out[at + k] += static_cast<double>(lookup(sample, s)[from + k]);
      at += n;
    }
    for (isize k = 0; k < count; ++k) out[k] *= scale;
  }

private:
  [[nodiscard]] isize token(isize i, isize s) const noexcept {
    return static_cast<isize>(tokens[i * token_sample_stride + s * token_position_stride]);
  }
  [[nodiscard]] const U* lookup(isize i, isize s) const noexcept {
    return lookup_gradients + i * lookup_sample_stride + s * lookup_position_stride;
  }
  [[nodiscard]] const U* activation(isize i, isize t) const noexcept {
    return activations + i * activation_sample_stride + t * activation_position_stride;
  }
  [[nodiscard]] const U* logits(isize i, isize t) const noexcept {
    return logit_gradients + i * logit_sample_stride + t * logit_position_stride;
  }

  /// Numbers of whole rows in 32 KiB.
  [[nodiscard]] isize tile_of_rows() const noexcept {
    return std::max<isize>(1, 4096 / std::max<isize>(1, dimension)) * dimension;
  }

  /// Rows: the output positions, then the tokens that are looked up.
  [[nodiscard]] detail::sequence_squares gram_squares(isize i, const isize* held, isize lookups,
                                                      workspace& scratch) const {
    const workspace::scope scope(scratch);
    const isize n = output_positions + lookups;
    double* const e = scratch.take<double>(n * n);
    double* const a = scratch.take<double>(n * n);
    detail::gram_of_rows(
        output_positions, vocabulary, [&](isize t) { return logits(i, t); }, e, n, scratch);
    for (isize s = output_positions; s < n; ++s) {
      const isize v = token(i, held[s - output_positions]);
      for (isize t = 0; t < output_positions; ++t) e[t * n + s] = static_cast<double>(logits(i, t)[v]);
      for (isize t = output_positions; t <= s; ++t) e[t * n + s] = token(i, held[t - output_positions]) == v ? 1 : 0;
    }
    detail::gram_of_rows(
        n, dimension,
        [&](isize r) { return r < output_positions ? activation(i, r) : lookup(i, held[r - output_positions]); }, a, n,
        scratch);
    return detail::squares_of_grams<U>(n, e, a, vocabulary + dimension);
  }

  [[nodiscard]] detail::sequence_squares instantiated_squares(isize i, const isize* held, isize lookups,
                                                              workspace& scratch) const {
    const workspace::scope scope(scratch);
    const isize tile = tile_of_rows();
    double* const g = scratch.take<double>(tile);
    detail::sequence_squares out{0, 0};
    isize tiles = 0;
    detail::for_each_tile_of(
        *this, i, std::max<isize>(1, tile), g, scratch,
        [&](isize, isize count, const double* part) { out.squares += squared_norm(part, count), ++tiles; });
    for (isize t = 0; t < output_positions; ++t)
      out.lengths +=
          std::sqrt(squared_norm(logits(i, t), vocabulary)) * std::sqrt(squared_norm(activation(i, t), dimension));
    for (isize s = 0; s < lookups; ++s) out.lengths += std::sqrt(squared_norm(lookup(i, held[s]), dimension));
    const double norm =
        std::sqrt(upper_bound_of_sum(out.squares, tiles)) +
        static_cast<double>(output_positions + lookups) * std::numeric_limits<double>::epsilon() * out.lengths;
    out.squares = norm * norm;
    return out;
  }
};

static_assert(PerSampleGradients<tied_embedding<float>, float> && SampleAccess<tied_embedding<float, std::int64_t>>);
static_assert(CheckedSource<tied_embedding<double>>);

} // namespace dpopt
