// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// dpopt::embedding on the device: the table of an embedding layer, never dense.
#pragma once

#include "dpopt/core/error.hpp"
#include "dpopt/cuda/device_gradients.hpp"
#include "dpopt/cuda/embedding.cuh"

#include <concepts>
#include <cstdint>
#include "dpopt/gradients/stride_check.hpp"

#include <array>
#include <limits>
#include <string>

namespace dpopt::cuda {

/// Tokens [batch x positions] and output gradients [batch x positions x dimension] in device memory. Tokens outside of
/// the vocabulary cannot be refused without waiting for the device: they count in the norm and add nothing.
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
  [[nodiscard]] std::string problem() const {
    constexpr isize most = std::numeric_limits<std::int32_t>::max();
    if (samples_ < 0 || positions < 0 || dimension < 0)
      return "embedding: a negative number of samples, positions or dimensions; give 0 or more";
    if (vocabulary < 0 || vocabulary > most || positions > most)
      return message("embedding: a vocabulary of ", vocabulary, " over ", positions,
                     " positions; each must be from 0 to ", most);
    const bool apart = dpopt::detail::samples_apart(
        {samples_, gradient_sample_stride}, std::array{dpopt::detail::dimension_extent{positions, gradient_position_stride},
                                                       dpopt::detail::dimension_extent{dimension, 1}});
    if (!apart) return dpopt::detail::overlap_problem("embedding", "the gradient strides let");
    return {};
  }

  template <class D>
  void add_squared_norms(device_work<D>& on, double* squared_norms) const {
    const token_links links = linked(on);
    on.launch("add_token_norms", token_norms_shape(samples_), &add_token_norms<U, Token>, view(), links, squared_norms);
  }
  /// Links the tokens again: the scratch memory of the norms may hold something else by now.
  template <class D, std::floating_point Out>
  void add_weighted_sum(device_work<D>& on, const double* factors, Out* out) const {
    const token_links links = linked(on);
    on.launch("add_token_sum", token_sum_shape(samples_, vocabulary, dimension), &add_token_sum<U, Token, Out>, view(),
              links, factors, token_sum_rows(vocabulary, dimension), out);
  }

private:
  template <class D>
  [[nodiscard]] token_links linked(device_work<D>& on) const {
    const isize n = samples_ * positions;
    std::int32_t* const room = on.template scratch<std::int32_t>(2 * n);
    const token_links links{room, room + n};
    on.launch("link_tokens", link_tokens_shape(samples_, positions), &link_tokens<U, Token>, view(), links);
    return links;
  }
  [[nodiscard]] token_view<U, Token> view() const noexcept {
    return {tokens,
            output_gradients,
            samples_,
            positions,
            vocabulary,
            dimension,
            padding_index,
            token_sample_stride,
            token_position_stride,
            gradient_sample_stride,
            gradient_position_stride};
  }
};

} // namespace dpopt::cuda
