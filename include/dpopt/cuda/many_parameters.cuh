// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Norms and sums of many small parameters in one launch each, with the bits of one launch a parameter: what a network
/// of hundreds of biases, scales and narrow layers spends is then not the time of its launches.
///
/// Launched by device_contributions, up to 82 parameters of rows or 49 linear layers at a time; layers over positions
/// and embeddings are in many_sequences.cuh and many_embeddings.cuh. The table is in the arguments, and so in constant
/// memory, from which a block reads one entry for each thing that it does. Bytes: those of one launch each, every
/// number of the rows once for the norms and once for the sums, 16 bytes a norm and 8 a column (16 on the grid) beside
/// it. Roofline of a million floats, H200 (4.8 TB/s) | A100 (2.0 TB/s): 0.83 | 2.0 us; 82 parameters of 64 numbers over
/// 256 samples are 5.4 MB, 1.1 | 2.7 us, where 82 launches take 200 us.
///
/// Registers sm_80 | sm_90 in float, of rows and of layers, and the share of a multiprocessor's threads that they
/// leave: norms 40 | 40 and 48 | 52 (75 and 50 %), up to 512 threads and 0.6 KiB of shared memory; sums 40 | 38 and 46
/// | 42 (75 and 62 %), 64 threads and 1 or 2 KiB; sums on the grid 32 | 32 and 38 | 38 (100 and 75 %), 256 threads,
/// none.
#pragma once

#include "dpopt/cuda/argument_table.hpp"
#include "dpopt/cuda/device_gradients.hpp"
#include "dpopt/cuda/dialect.cuh"
#include "dpopt/cuda/grid_sum.cuh"
#include "dpopt/cuda/linear_norms.cuh"
#include "dpopt/cuda/reduce.cuh"
#include "dpopt/cuda/row_norms.cuh"
#include "dpopt/cuda/rows.cuh"
#include "dpopt/cuda/weighted_sum.cuh"

#include <algorithm>
#include <cstdint>

namespace dpopt::cuda {

/// Parameters of up to so many elements share launches: one warp reads a sample's numbers.
inline constexpr isize most_shared_elements = 4096;
/// And those over positions with up to so many rows, samples times positions: one thread adds all of an element's.
inline constexpr isize most_shared_rows = 4096;

/// One of them: its gradients, where the answer goes, and the factors of its group.
template <class View, class To>
struct listed_parameter {
  View view;
  To* to;                ///< squared norms of its group, [batch], or its sums, [elements]
  const double* factors; ///< [batch]; null where norms are asked for
};
template <class View, class To>
using parameter_table = argument_table<listed_parameter<View, To>>;

/// to[i] += an upper bound on the squared norm of sample i, for each parameter of the table in its order. A block a
/// sample, a warp a parameter. Parameters of one group, whose norms go to the same place, stand side by side: one
/// thread adds them, so that the order of additions, and no race, decides their bits.
template <class View>
__global__ void add_norms_of_many(parameter_table<View, double> table, isize batch) {
  constexpr int most = static_cast<int>(parameter_table<View, double>::capacity);
  DPOPT_SHARED(double, norms, most);
  const isize thread = threadIdx.x, threads = static_cast<isize>(blockDim.x);
  for (isize i = blockIdx.x; i < batch; i += gridDim.x) {
    for (isize p = thread / warp_size; p < table.size(); p += threads / warp_size) {
      const double norm = warp_squared_norm(table[p].view, i);
      if (thread % warp_size == 0) norms[p] = norm;
    }
    __syncthreads();
    for (isize p = thread; p < table.size(); p += threads) {
      double* const to = table[p].to;
      if (p > 0 && table[p - 1].to == to) continue;
      double sum = to[i];
      for (isize q = p; q < table.size() && table[q].to == to; ++q) sum += norms[q];
      to[i] = sum;
    }
    __syncthreads(); // before the next sample's norms
  }
}

/// Puts the norms of a table on the stream. Views whose norm is not a warp's work have an overload of their own.
/// @param groups how many different `to` there are.
template <class D, class View>
void launch_norms_of_many(device_work<D>& on, const parameter_table<View, double>& table, isize batch,
                          isize /*groups*/) {
  const isize warps = std::min<isize>(table.size(), 16);
  const isize threads = std::max<isize>(warps, 1) * warp_size;
  on.launch("add_norms_of_many", cover(table.size() == 0 ? 0 : batch * threads, static_cast<int>(threads)),
            &add_norms_of_many<View>, table, batch);
}

/// The same by blocks, one for a sample of a group: its first thread adds the norms of the group's parameters.
/// @param norm of (view, sample): all threads of a block ask it.
template <class View, class Norm>
__device__ inline void add_block_norms_of_many(const parameter_table<View, double>& table, isize batch, isize groups,
                                               const Norm& norm) {
  for (isize b = blockIdx.x; b < groups * batch; b += gridDim.x) {
    const isize group = b / batch, i = b - group * batch;
    isize first = 0;
    for (isize g = group; g > 0; ++first) g -= table[first + 1].to != table[first].to ? 1 : 0;
    double* const to = table[first].to;
    double sum = threadIdx.x == 0 ? to[i] : 0.0;
    for (isize q = first; q < table.size() && table[q].to == to; ++q) sum += norm(table[q].view, i);
    if (threadIdx.x == 0) to[i] = sum;
  }
}

/// to[k] += the sum over samples of factors[i] x element k, samples in their order. A block a chunk of one parameter's
/// elements, `chunks` for each, some of which have none.
template <class View, class Out>
__global__ void add_sums_of_many(parameter_table<View, Out> table, isize chunks) {
  using scale = typename View::template scale_type<Out>;
  DPOPT_SHARED(scale, scales, staged_factors);
  for (isize b = blockIdx.x; b < table.size() * chunks; b += gridDim.x) {
    const listed_parameter<View, Out>& p = table[b / chunks];
    add_weighted_chunk(p.view, p.factors, p.to, b % chunks, scales);
  }
}

/// add_grid_sum for each parameter of the table; blocks and chunks as above, a thread an element and a share of
/// samples.
template <class View>
__global__ void add_grid_sums_of_many(parameter_table<View, std::int64_t> table, isize batch, grid_scale grid,
                                      isize parts, isize chunks) {
  const isize threads = static_cast<isize>(blockDim.x);
  for (isize b = blockIdx.x; b < table.size() * chunks; b += gridDim.x) {
    const listed_parameter<View, std::int64_t>& p = table[b / chunks];
    const isize at = b % chunks * threads + threadIdx.x, size = p.view.elements();
    if (at < size * parts) add_grid_share(p.view, batch, size, p.factors, grid, parts, at, p.to);
  }
}

/// Parameters of one kind of view until they are launched together.
template <class View, class To>
class many_parameters {
public:
  static constexpr isize capacity = parameter_table<View, To>::capacity;

  explicit many_parameters(isize batch) : batch_(batch) {}

  /// @throw state_error beyond `capacity`.
  void add(const View& view, To* to, const double* factors = nullptr) {
    if (table_.size() == 0 || table_[table_.size() - 1].to != to) ++groups_;
    table_.add({view, to, factors});
    all_ += view.elements();
    largest_ = std::max(largest_, view.elements());
  }

  /// Those of one group were added one after the other.
  template <class D>
  void add_squared_norms(device_work<D>& on) const {
    launch_norms_of_many(on, table_, batch_, groups_);
  }
  template <class D>
  void add_weighted_sums(device_work<D>& on) const {
    constexpr int threads = 64;
    const isize chunks = pieces(largest_, threads * View::columns_a_thread);
    on.launch("add_sums_of_many", cover(batch_ == 0 ? 0 : table_.size() * chunks * threads, threads),
              &add_sums_of_many<View, To>, table_, chunks);
  }
  template <class D>
  void add_grid_sums(device_work<D>& on, grid_scale grid) const {
    constexpr int threads = 256;
    const isize parts = grid_sum_parts(batch_, all_), chunks = pieces(largest_ * parts, threads);
    on.launch("add_grid_sums_of_many", cover(batch_ == 0 ? 0 : table_.size() * chunks * threads, threads),
              &add_grid_sums_of_many<View>, table_, batch_, grid, parts, chunks);
  }

private:
  [[nodiscard]] static isize pieces(isize n, isize each) noexcept { return (n + each - 1) / each; }

  parameter_table<View, To> table_;
  isize batch_;
  isize groups_ = 0; // each of which stands side by side
  isize all_ = 0;    // elements
  isize largest_ = 0;
};

} // namespace dpopt::cuda
