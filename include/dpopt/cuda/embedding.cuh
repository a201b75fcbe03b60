// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The table of an embedding layer on the device, never dense: repeated tokens of a sample are found first, then norms
/// and sums follow the links from each token's first position to its later ones.
///
/// Deterministic: sums in floating point without atomics, samples and positions in their order, the bits of
/// dpopt::embedding. The price is that a row which many samples hold is one warp's work. Sums on the integer grid,
/// which no order can change, are added by atomics, a warp a token.
///
/// Launched by cuda::embedding. With N positions in the batch and d columns: link_tokens reads up to `positions` tokens
/// for each, from cache; the norms read N d numbers once; the sum reads those of kept samples, reads and writes a row
/// of the table for each head, and every warp looks through N heads in cache. Roofline of norm or sum for a million
/// numbers, H200 (4.8 TB/s) | A100 (2.0 TB/s): float 0.83 | 2.0 us and 2.5 | 6.0 us; sum on the grid, 20 bytes a number
/// of which 16 are atomics, 4.2 | 10 us where tokens are many. Registers sm_80 | sm_90 in float: link 24 | 26 (256
/// threads, 100 %), norm 32 | 34 (128 threads, 100 | 75 %), sum 56 | 54 (128 threads, 56 %) and 5 KiB of shared memory,
/// sum on the grid 30 | 30 (256 threads, 100 %).
#pragma once

#include "dpopt/cuda/dialect.cuh"
#include "dpopt/cuda/grid_sum.cuh"
#include "dpopt/cuda/reduce.cuh"
#include "dpopt/cuda/squared_norm.cuh"
#include "dpopt/gradients/per_sample_gradients.hpp"

#include <cstdint>

namespace dpopt::cuda {

/// A number of a table.
struct table_place {
  isize row;
  isize column;
};

/// What dpopt::embedding is told, in device memory.
template <class U, class Token>
struct token_view {
  const Token* tokens;
  const U* output_gradients;
  isize samples;
  isize positions; ///< below 2^31
  isize vocabulary;
  isize dimension;
  isize padding_index;
  isize token_sample_stride, token_position_stride;
  isize gradient_sample_stride, gradient_position_stride;

  // As rows.cuh says, for tables that are small enough to be asked number by number.
  template <class Out>
  using scale_type = double;
  static constexpr isize columns_a_thread = 1;

  [[nodiscard]] DPOPT_DEVICE isize elements() const { return vocabulary * dimension; }
  [[nodiscard]] __device__ table_place place(isize k) const { return {k / dimension, k % dimension}; }
  /// As embedding::copy_sample writes it.
  [[nodiscard]] __device__ double element(isize i, table_place at, double scale) const {
    return scale * sum_at(i, at).sum;
  }

  /// What sample i has in one place: the sum in double, positions in their order, and how many there are.
  struct found {
    double sum;
    isize positions;
  };
  [[nodiscard]] __device__ found sum_at(isize i, table_place at) const {
    found out{0, 0};
    if (at.row == padding_index) return out;
    for (isize t = 0; t < positions; ++t) {
      if (token(i, t) != at.row) continue;
      out.sum += static_cast<double>(gradient(i, t)[at.column]);
      ++out.positions;
    }
    return out;
  }

  [[nodiscard]] __device__ isize token(isize i, isize t) const {
    return static_cast<isize>(tokens[i * token_sample_stride + t * token_position_stride]);
  }
  [[nodiscard]] __device__ const U* gradient(isize i, isize t) const {
    return output_gradients + i * gradient_sample_stride + t * gradient_position_stride;
  }

  /// Whether position t is the first with its token, which is no padding.
  [[nodiscard]] __device__ bool is_first(isize i, isize t) const {
    const isize here = token(i, t);
    bool first = here != padding_index;
    for (isize s = 0; s < t && first; ++s) first = token(i, s) != here;
    return first;
  }
  /// The next position with the token of position t, or -1.
  [[nodiscard]] __device__ isize next(isize i, isize t) const {
    const isize here = token(i, t);
    isize s = t + 1;
    while (s < positions && token(i, s) != here) ++s;
    return s < positions ? s : -1;
  }
};

/// Where the tokens of a sample repeat; scratch memory, [samples x positions] each.
struct token_links {
  std::int32_t* next;  ///< the next position with the same token, or -1
  std::int32_t* heads; ///< the token, at its first position; -1 at later ones and at padding; -2 outside of the table
};

/// The answers of token_view to is_first() and next(), read from links.
struct linked_tokens {
  token_links links;
  isize positions;

  [[nodiscard]] __device__ bool is_first(isize i, isize t) const { return links.heads[i * positions + t] != -1; }
  [[nodiscard]] __device__ isize next(isize i, isize t) const { return links.next[i * positions + t]; }
};

/// Number k of the sum of the gradients of all positions that hold the token of position t, the first of them. In
/// double, positions in their order.
/// @param order the view itself, or linked_tokens.
template <class U, class Token, class Order>
[[nodiscard]] __device__ inline double sum_of_token(const token_view<U, Token>& v, const Order& order, isize i, isize t,
                                                    isize k) {
  double sum = 0;
  for (isize at = t; at >= 0; at = order.next(i, at)) sum += static_cast<double>(v.gradient(i, at)[k]);
  return sum;
}

/// A thread a position.
template <class U, class Token>
__global__ void link_tokens(token_view<U, Token> v, token_links links) {
  const isize threads = static_cast<isize>(blockDim.x);
  for (isize at = blockIdx.x * threads + threadIdx.x; at < v.samples * v.positions; at += threads * gridDim.x) {
    const isize i = at / v.positions, t = at - i * v.positions;
    const isize token = v.token(i, t);
    links.next[at] = static_cast<std::int32_t>(v.next(i, t));
    links.heads[at] = !v.is_first(i, t)                    ? -1
                      : token >= 0 && token < v.vocabulary ? static_cast<std::int32_t>(token)
                                                           : -2;
  }
}

/// An upper bound on the squared norm of what sample i adds, by one block, all of whose threads must come; a warp a
/// token. Tokens outside of the table count, although they add nothing.
/// @param order as for sum_of_token. @param per_warp as for block_sum.
template <class U, class Token, class Order, class Shared>
[[nodiscard]] __device__ inline double block_squared_norm(const token_view<U, Token>& v, const Order& order, isize i,
                                                          Shared& per_warp) {
  const isize warps = static_cast<isize>(blockDim.x) / warp_size;
  double squares = 0, numbers = 0;
  for (isize t = threadIdx.x / warp_size; t < v.positions; t += warps) {
    if (!order.is_first(i, t)) continue;
    for (isize k = threadIdx.x % warp_size; k < v.dimension; k += warp_size) {
      const double sum = sum_of_token(v, order, i, t, k);
      squares += sum * sum;
      if (sum != 0) numbers += 1;
    }
  }
  const double all = block_sum(squares, per_warp);
  const double any = block_sum(numbers, per_warp);
  return bound_of_squares<double>(all, v.positions * v.dimension, [any] { return any > 0; });
}

/// squared_norms[i] += an upper bound on the squared norm of what sample i adds. A block a sample.
template <class U, class Token>
__global__ void add_token_norms(token_view<U, Token> v, token_links links, double* squared_norms) {
  DPOPT_SHARED(double, per_warp, most_warps);
  for (isize i = blockIdx.x; i < v.samples; i += gridDim.x) {
    const double norm = block_squared_norm(v, linked_tokens{links, v.positions}, i, per_warp);
    if (threadIdx.x == 0) squared_norms[i] += norm;
  }
}

/// Columns of a row that one warp adds, and threads of a block.
inline constexpr isize scatter_columns = 128;
inline constexpr int scatter_threads = 128;

/// A token of a sample, made ready by one lane for the whole warp.
template <class Product>
struct ready_token {
  isize sample;
  isize position;
  isize row;      ///< where its row of the table begins
  double factor;  ///< for the sum of several positions; 0: the sample is dropped
  Product narrow; ///< for a single one
  bool repeated;
};

/// out[token * dimension + k] += factors[i] x the sum of its gradients in sample i, samples in their order. A warp
/// owns `rows_each` rows of the table and scatter_columns of their columns and looks through all heads for them. Blocks
/// of scatter_threads.
template <class U, class Token, class Out>
__global__ void add_token_sum(token_view<U, Token> v, token_links links, const double* factors, isize rows_each,
                              Out* out) {
  using product = product_type<U, Out>;
  DPOPT_SHARED(ready_token<product>, ready, scatter_threads);
  const isize warps = static_cast<isize>(blockDim.x) / warp_size;
  const isize lane = threadIdx.x % warp_size;
  const linked_tokens order{links, v.positions};
  const isize chunks = (v.dimension + scatter_columns - 1) / scatter_columns;
  const isize ranges = (v.vocabulary + rows_each - 1) / rows_each;
  for (isize unit = blockIdx.x * warps + threadIdx.x / warp_size; unit < ranges * chunks; unit += warps * gridDim.x) {
    const isize low = unit / chunks * rows_each, high = low + rows_each; // heads are below the vocabulary
    const isize begin = unit % chunks * scatter_columns + lane;
    const isize end = begin - lane + scatter_columns < v.dimension ? begin - lane + scatter_columns : v.dimension;
    for (isize base = 0; base < v.samples * v.positions; base += warp_size) {
      const isize mine = base + lane;
      const isize head = mine < v.samples * v.positions ? links.heads[mine] : -1;
      const bool wanted = head >= low && head < high;
      const unsigned found = __ballot_sync(all_lanes, wanted);
      if (found == 0) continue; // the same for all lanes
      if (wanted) {             // each lane its own: divisions and rounding are done once
        const isize i = mine / v.positions;
        const double given = factors[i];
        ready[threadIdx.x] = {i,
                              mine - i * v.positions,
                              head * v.dimension,
                              given == 0 ? 0 : rounded_down<Out, double>(given),
                              given == 0 ? product(0) : rounded_down<Out, product>(given),
                              links.next[mine] >= 0};
      }
      __syncwarp(); // now all lanes see them
      for (unsigned left = found; left != 0; left &= left - 1) {
        const ready_token<product> one = ready[threadIdx.x - lane + __ffs(static_cast<int>(left)) - 1];
        if (one.factor == 0) continue;
        for (isize k = begin; k < end; k += warp_size)
          out[one.row + k] +=
              one.repeated
                  ? static_cast<Out>(one.factor * sum_of_token(v, order, one.sample, one.position, k))
                  : static_cast<Out>(one.narrow * static_cast<product>(v.gradient(one.sample, one.position)[k]));
      }
      __syncwarp(); // before the next ones take their place
    }
  }
}

/// integer_grid::add of the table: out[token * dimension + k] += the units of factors[i] x the sum of its gradients in
/// sample i. A warp a position, which has something to do where it is the first of its token.
template <class U, class Token>
__global__ void add_token_grid_sum(token_view<U, Token> v, token_links links, const double* factors, grid_scale grid,
                                   std::int64_t* out) {
  const isize warps = static_cast<isize>(blockDim.x) / warp_size;
  for (isize at = blockIdx.x * warps + threadIdx.x / warp_size; at < v.samples * v.positions; at += warps * gridDim.x) {
    const isize i = at / v.positions, head = links.heads[at];
    if (head < 0 || factors[i] == 0) continue;
    const double factor = rounded_down<double>(factors[i]);
    for (isize k = threadIdx.x % warp_size; k < v.dimension; k += warp_size) {
      const double x = factor * sum_of_token(v, linked_tokens{links, v.positions}, i, at - i * v.positions, k);
      add_units(out + head * v.dimension + k, grid_units(x, grid));
    }
  }
}

[[nodiscard]] constexpr launch_shape link_tokens_shape(isize samples, isize positions) noexcept {
  return cover(samples * positions);
}
[[nodiscard]] constexpr launch_shape token_norms_shape(isize samples) noexcept { return cover(samples * 128, 128); }

[[nodiscard]] constexpr launch_shape token_grid_shape(isize samples, isize positions) noexcept {
  return cover(samples * positions * warp_size);
}

/// Rows of the table for each warp of add_token_sum: about 8192 warps look through the heads.
[[nodiscard]] constexpr isize token_sum_rows(isize vocabulary, isize dimension) noexcept {
  const isize chunks = (dimension + scatter_columns - 1) / scatter_columns;
  const isize rows = (vocabulary * chunks + 8191) / 8192;
  return rows < 1 ? 1 : rows;
}
[[nodiscard]] constexpr launch_shape token_sum_shape(isize samples, isize vocabulary, isize dimension) noexcept {
  if (samples == 0) return {0, scatter_threads};
  const isize rows = token_sum_rows(vocabulary, dimension);
  const isize chunks = (dimension + scatter_columns - 1) / scatter_columns;
  return cover((vocabulary + rows - 1) / rows * chunks * warp_size, scatter_threads);
}

} // namespace dpopt::cuda
