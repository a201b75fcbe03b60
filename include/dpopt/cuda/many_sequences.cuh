// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Norms of many small linear layers over positions in one launch, with the bits of one launch each. Their sums are
/// those of many_parameters.cuh: number by number, samples and positions in their order, and not by a product.
///
/// Launched by many_parameters, up to 35 layers at a time. A block a sample of the layers of one group, one after the
/// other, each as in sequence_norms.cuh, whose work and shared memory these are: what is saved are launches. 256
/// threads; registers sm_80 | sm_90 80 | 78 in float (37 %); sums 60 | 54 (50 | 56 %), on the grid 56 | 48 (50 | 62 %).
#pragma once

#include "dpopt/cuda/dialect.cuh"
#include "dpopt/cuda/many_parameters.cuh"
#include "dpopt/cuda/sequence_norms.cuh"

namespace dpopt::cuda {

/// add_sequence_norms for each layer of the table, blocks of tile_threads.
template <class U>
__global__ void add_sequence_norms_of_many(parameter_table<sequence_view<U>, double> table, isize batch, isize groups) {
  DPOPT_SHARED(double, a, tile_numbers);
  DPOPT_SHARED(double, b, tile_numbers);
  DPOPT_SHARED(double, per_warp, most_warps);
  add_block_norms_of_many(table, batch, groups, [&](const sequence_view<U>& v, isize i) {
    const bool by_gram = dpopt::detail::gram_is_cheaper(v.inputs.positions, v.inputs.size, v.outputs.size);
    return dpopt::detail::squares_as_added<U>(block_squares(v, by_gram, i, a, b, per_warp), v.inputs.positions);
  });
}

template <class D, class U>
void launch_norms_of_many(device_work<D>& on, const parameter_table<sequence_view<U>, double>& table, isize batch,
                          isize groups) {
  on.launch("add_sequence_norms_of_many", sequence_norms_shape(groups * batch), &add_sequence_norms_of_many<U>, table,
            batch, groups);
}

} // namespace dpopt::cuda
