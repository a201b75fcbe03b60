// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// dpopt::embedding on the device: the table of an embedding layer, never dense.
#pragma once

#include "dpopt/cuda/device_gradients.hpp"
#include "dpopt/cuda/embedding.cuh"
#include "dpopt/cuda/many_embeddings.cuh"
#include "dpopt/cuda/many_parameters.cuh"
#include "dpopt/gradients/embedding.hpp"

#include <concepts>
#include <cstdint>
#include <string>

namespace dpopt::cuda {

/// Tokens [batch x positions] and output gradients [batch x positions x dimension] in device memory. Tokens outside of
/// the vocabulary cannot be refused without waiting for the device: they count in the norm and add nothing.
template <class U, std::signed_integral Token = std::int32_t>
class embedding : dpopt::embedding<U, Token> {
  using host = dpopt::embedding<U, Token>;

public:
  using host::batch, host::host, host::no_padding, host::size;
  using host::gradient_sample_stride, host::gradient_position_stride; // dense at first
  using host::token_sample_stride, host::token_position_stride;       // as for the core's

  /// The core's question, without reading a token.
  [[nodiscard]] std::string problem() const { return host::layout_problem(); }

  template <class D>
  void add_squared_norms(device_work<D>& on, double* squared_norms) const {
    const token_links links = linked(on);
    on.launch("add_token_norms", token_norms_shape(batch()), &add_token_norms<U, Token>, view(), links, squared_norms);
  }
  /// Links the tokens again: the scratch memory of the norms may hold something else by now.
  template <class D, std::floating_point Out>
  void add_weighted_sum(device_work<D>& on, const double* factors, Out* out) const {
    const token_links links = linked(on);
    on.launch("add_token_sum", token_sum_shape(batch(), this->vocabulary, this->dimension),
              &add_token_sum<U, Token, Out>, view(), links, factors, token_sum_rows(this->vocabulary, this->dimension),
              out);
  }

  template <class D>
  void add_grid_sum(device_work<D>& on, const double* factors, grid_scale grid, std::int64_t* out) const {
    const token_links links = linked(on);
    on.launch("add_token_grid_sum", token_grid_shape(batch(), this->positions), &add_token_grid_sum<U, Token>, view(),
              links, factors, grid, out);
  }

  /// Small tables of samples with few tokens.
  [[nodiscard]] bool shares_launches() const noexcept {
    return size() <= most_shared_elements && this->positions <= most_shared_positions &&
           batch() * this->positions <= most_shared_rows;
  }
  [[nodiscard]] token_view<U, Token> view() const noexcept {
    return {this->tokens,           this->output_gradients,  batch(),
            this->positions,        this->vocabulary,        this->dimension,
            this->padding_index,    token_sample_stride,     token_position_stride,
            gradient_sample_stride, gradient_position_stride};
  }

private:
  template <class D>
  [[nodiscard]] token_links linked(device_work<D>& on) const {
    const isize n = batch() * this->positions;
    std::int32_t* const room = on.template scratch<std::int32_t>(2 * n);
    const token_links links{room, room + n};
    on.launch("link_tokens", link_tokens_shape(batch(), this->positions), &link_tokens<U, Token>, view(), links);
    return links;
  }
};

static_assert(SharesLaunches<embedding<float>>);

} // namespace dpopt::cuda
