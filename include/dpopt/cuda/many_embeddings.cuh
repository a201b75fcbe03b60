// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Norms and sums of many small tables of embedding layers in one launch each, with the bits of one launch each. There
/// are no links: tokens are looked for again each time, which needs no scratch memory and is quick in short lists.
///
/// Launched by many_parameters, up to 38 tables at a time. Norms: a block a sample of the tables of one group, one
/// after the other, each as in embedding.cuh; a token is compared with up to `positions` others, from cache, for each
/// 32 columns. Sums: a thread an element, which looks through all samples and positions, from cache, and reads the
/// gradients that it adds. Bytes: those of embedding.cuh without its links. Registers sm_80 | sm_90 in float: norms 56
/// | 48 (128 threads, 56 | 62 %), sums 40 | 40 (64 threads, 75 %), on the grid 48 | 48 (256 threads, 62 %).
#pragma once

#include "dpopt/cuda/dialect.cuh"
#include "dpopt/cuda/embedding.cuh"
#include "dpopt/cuda/many_parameters.cuh"
#include "dpopt/gradients/per_sample_gradients.hpp"

namespace dpopt::cuda {

/// Tables of samples with up to so many tokens share launches.
inline constexpr isize most_shared_positions = 64;

/// add_token_norms for each table.
template <class U, class Token>
__global__ void add_token_norms_of_many(parameter_table<token_view<U, Token>, double> table, isize batch,
                                        isize groups) {
  DPOPT_SHARED(double, per_warp, most_warps);
  add_block_norms_of_many(table, batch, groups, [&](const token_view<U, Token>& v, isize i) {
    return block_squared_norm(v, v, i, per_warp);
  });
}

template <class D, class U, class Token>
void launch_norms_of_many(device_work<D>& on, const parameter_table<token_view<U, Token>, double>& table, isize batch,
                          isize groups) {
  on.launch("add_token_norms_of_many", token_norms_shape(groups * batch), &add_token_norms_of_many<U, Token>, table,
            batch, groups);
}

/// out[k] += the sum for the elements of one chunk, as many as a block has threads, samples in their order; a token of
/// one position and one of several are rounded as dpopt::embedding rounds them.
template <class U, class Token, class Out, class Shared>
__device__ inline void add_weighted_chunk(const token_view<U, Token>& v, const double* factors, Out* out, isize chunk,
                                          Shared&) {
  using product = product_type<U, Out>;
  const isize k = chunk * static_cast<isize>(blockDim.x) + threadIdx.x;
  if (k >= v.elements()) return;
  const table_place at = v.place(k);
  Out sum = out[k];
  for (isize i = 0; i < v.samples; ++i) {
    if (factors[i] == 0) continue;
    const auto found = v.sum_at(i, at);
    if (found.positions == 1)
      sum += static_cast<Out>(rounded_down<Out, product>(factors[i]) * static_cast<product>(found.sum));
    else if (found.positions > 1) sum += static_cast<Out>(rounded_down<Out, double>(factors[i]) * found.sum);
  }
  out[k] = sum;
}

} // namespace dpopt::cuda
