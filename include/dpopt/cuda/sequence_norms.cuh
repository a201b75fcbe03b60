// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// add_squared_norms of a linear layer over T positions: |sum over t of e_t a_t^T|^2 from Gram matrices or from the
/// gradient itself, in tiles of 16 x 16 numbers that are never written out. In double, with the error bounds of
/// gradients/sequence_norm.hpp: what is added is an upper bound, rounding included.
///
/// Launched by cuda::linear_sequence. With T positions of d inputs and p outputs, a sample costs T^2 (d + p) operations
/// in double by Gram matrices or 2 T d p by the gradient, and two reads of shared memory for each pair of them, which
/// are the limit: 32 numbers a cycle and multiprocessor. For T = 128, d = p = 512 and 64 samples: 0.13 ms on an H200
/// (132 at 2.0 GHz), 0.22 ms on an A100 (108 at 1.4 GHz); memory, 34 MB of floats once and the rest from cache, would
/// take 7 and 17 us. A sample is one block: fewer than about 400 leave multiprocessors waiting. 256 threads; registers
/// sm_80 | sm_90 80 | 64 in float (37 | 50 %), 100 | 84 in double (25 | 25 %); 4.6 KiB of shared memory.
#pragma once

#include "dpopt/cuda/dialect.cuh"
#include "dpopt/cuda/reduce.cuh"
#include "dpopt/cuda/rows.cuh"
#include "dpopt/cuda/squared_norm.cuh"
#include "dpopt/gradients/sequence_norm.hpp"

#include <cmath>
#include <limits>

namespace dpopt::cuda {

inline constexpr int tile_side = 16;
inline constexpr int tile_pitch = tile_side + 1; // keeps a column of a tile out of one memory bank
inline constexpr int tile_numbers = tile_side * tile_pitch;
inline constexpr int tile_threads = tile_side * tile_side;

/// sum over k < depth of left(r, k) right(c, k) for the thread's r = threadIdx.x / 16 and c = threadIdx.x % 16. All
/// threads must come.
/// @param by_row whether left(r, .) lies along memory, or left(., k) does: neighbours are read by neighbouring threads.
/// @param a, b shared memory, tile_numbers doubles each.
template <bool ByRow, class Left, class Right, class Shared>
[[nodiscard]] __device__ inline double tile_product(isize depth, const Left& left, const Right& right, Shared& a,
                                                    Shared& b) {
  const int r = static_cast<int>(threadIdx.x) / tile_side, c = static_cast<int>(threadIdx.x) % tile_side;
  const int x = ByRow ? r : c, y = ByRow ? c : r; // row and depth that this thread reads
  double sum = 0;
  for (isize k = 0; k < depth; k += tile_side) {
    __syncthreads(); // the tile before is done with
    a[x * tile_pitch + y] = k + y < depth ? left(x, k + y) : 0.0;
    b[x * tile_pitch + y] = k + y < depth ? right(x, k + y) : 0.0;
    __syncthreads();
    for (int j = 0; j < tile_side; ++j) sum += a[r * tile_pitch + j] * b[c * tile_pitch + j];
  }
  return sum;
}

/// The squares of sample i from Gram matrices, or less than 0 where rounding leaves them too wide. One block.
template <class U, class Shared, class PerWarp>
[[nodiscard]] __device__ inline dpopt::detail::sequence_squares gram_squares(const sequence_view<U>& v, isize i,
                                                                             Shared& a, Shared& b, PerWarp& per_warp) {
  const isize n = v.inputs.positions;
  double squares = 0, lengths = 0, tiny = 0;
  isize tiles = 0;
  for (isize s0 = 0; s0 < n; s0 += tile_side)
    for (isize t0 = s0; t0 < n; t0 += tile_side, ++tiles) {
      const auto dot = [&](const position_view<U>& rows) {
        const auto from = [&](isize begin) {
          return [&rows, i, n, begin](int r, isize k) {
            return begin + r < n ? static_cast<double>(rows.row(i, begin + r)[k]) : 0.0;
          };
        };
        return tile_product<true>(rows.size, from(s0), from(t0), a, b);
      };
      const double e = dot(v.outputs);
      const double x = dot(v.inputs);
      const isize s = s0 + threadIdx.x / tile_side, t = t0 + threadIdx.x % tile_side;
      if (s > t || t >= n) continue; // not multiplied by 0: it may be NaN
      if (s < t) {
        squares += 2 * (e * x);
        continue;
      }
      squares += e * x;
      lengths += std::sqrt(e) * std::sqrt(x);
      if (sizeof(U) > sizeof(float) && !(e > 1e-140 && x > 1e-140)) tiny = 1; // products might underflow
    }
  dpopt::detail::sequence_squares out;
  squares = block_sum(squares, per_warp);
  out.lengths = block_sum(lengths, per_warp);
  if (block_sum(tiny, per_warp) > 0) return out;
  const isize roundings = v.inputs.size + v.outputs.size + tiles + 2 * n + 32;
  const double error =
      static_cast<double>(roundings) * std::numeric_limits<double>::epsilon() * out.lengths * out.lengths;
  if (error <= 1e-7 * squares || out.lengths == 0) out.squares = squares + error;
  return out;
}

/// The squares of sample i from its gradient, made a tile at a time. One block.
template <class U, class Shared, class PerWarp>
[[nodiscard]] __device__ inline dpopt::detail::sequence_squares made_squares(const sequence_view<U>& v, isize i,
                                                                             Shared& a, Shared& b, PerWarp& per_warp) {
  const isize n = v.inputs.positions, width = v.inputs.size, height = v.outputs.size;
  const isize warps = static_cast<isize>(blockDim.x) / warp_size;
  double lengths = 0;
  for (isize t = threadIdx.x / warp_size; t < n; t += warps) {
    const double length = std::sqrt(warp_squared_norm(v.outputs.row(i, t), height)) *
                          std::sqrt(warp_squared_norm(v.inputs.row(i, t), width));
    if (threadIdx.x % warp_size == 0) lengths += length;
  }
  double squares = 0, numbers = 0;
  for (isize o0 = 0; o0 < height; o0 += tile_side)
    for (isize k0 = 0; k0 < width; k0 += tile_side) {
      const double g = tile_product<false>(
          n, [&](int r, isize t) { return o0 + r < height ? static_cast<double>(v.outputs.row(i, t)[o0 + r]) : 0.0; },
          [&](int c, isize t) { return k0 + c < width ? static_cast<double>(v.inputs.row(i, t)[k0 + c]) : 0.0; }, a, b);
      if (o0 + threadIdx.x / tile_side >= height || k0 + threadIdx.x % tile_side >= width) continue;
      squares += g * g;
      if (g != 0) numbers += 1;
    }
  const double sum = block_sum(squares, per_warp);
  const double any = block_sum(numbers, per_warp);
  dpopt::detail::sequence_squares out;
  out.lengths = block_sum(lengths, per_warp);
  // Rounding while the gradient was made, so that this bounds the exact one too.
  const double norm = std::sqrt(bound_of_squares<double>(sum, width * height, [any] { return any > 0; })) +
                      static_cast<double>(n) * std::numeric_limits<double>::epsilon() * out.lengths;
  out.squares = norm * norm;
  return out;
}

/// The squares of sample i by one block of tile_threads, all of which must come.
/// @param by_gram the cheaper way (gram_is_cheaper); the other is taken where rounding asks for it.
template <class U, class Shared, class PerWarp>
[[nodiscard]] __device__ inline dpopt::detail::sequence_squares
block_squares(const sequence_view<U>& factors, bool by_gram, isize i, Shared& a, Shared& b, PerWarp& per_warp) {
  dpopt::detail::sequence_squares g;
  if (by_gram) g = gram_squares(factors, i, a, b, per_warp);
  if (!(g.squares >= 0)) g = made_squares(factors, i, a, b, per_warp); // the same in all threads: so is the branch
  return g;
}

/// squared_norms[i] += an upper bound on sample i's squared norm. A block of tile_threads a sample.
template <class U>
__global__ void add_sequence_norms(sequence_view<U> factors, bool by_gram, double* squared_norms) {
  DPOPT_SHARED(double, a, tile_numbers);
  DPOPT_SHARED(double, b, tile_numbers);
  DPOPT_SHARED(double, per_warp, most_warps);
  for (isize i = blockIdx.x; i < factors.inputs.samples; i += gridDim.x) {
    const dpopt::detail::sequence_squares g = block_squares(factors, by_gram, i, a, b, per_warp);
    if (threadIdx.x == 0) squared_norms[i] += dpopt::detail::squares_as_added<U>(g, factors.inputs.positions);
  }
}

[[nodiscard]] constexpr launch_shape sequence_norms_shape(isize samples) noexcept {
  return cover(samples * tile_threads, tile_threads);
}

} // namespace dpopt::cuda
