// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// integer_grid::add on the device: contributions rounded towards zero on a grid and added as integers, so that the
/// bits are those of the CPU for any order of samples and blocks (accumulation/integer_grid.hpp says what that is
/// worth).
///
/// Launched by every source with an element(). Bytes: rows read each number once; sums 16 bytes for each share of the
/// samples. About 12 operations in double a number, two conversions among them: for rows of floats memory and
/// arithmetic are about even, a million numbers in 0.83 us on an H200 (4.8 TB/s) and 2.5 us on an A100, where
/// arithmetic is the limit; for factored layers arithmetic alone, 0.9 | 3 us. 256 threads; registers 40 | 40 for rows
/// (75 %), 38 | 32 for factors (75 | 100 %); no shared memory.
#pragma once

#include "dpopt/cuda/device_gradients.hpp"
#include "dpopt/cuda/dialect.cuh"
#include "dpopt/cuda/rows.cuh"
#include "dpopt/gradients/per_sample_gradients.hpp"

#include <cmath>
#include <cstdint>

namespace dpopt::cuda {

/// The units of x, as the bits that a sum of integers adds.
[[nodiscard]] __device__ inline std::uint64_t grid_units(double x, grid_scale grid) {
  const double units = x * grid.per_unit;
  return std::abs(units) < grid.limit ? static_cast<std::uint64_t>(static_cast<std::int64_t>(units)) : 0;
}

/// Adds units to a number that other threads add to as well.
__device__ inline void add_units(std::int64_t* sum, std::uint64_t units) {
  if (units != 0) atomicAdd(reinterpret_cast<unsigned long long*>(sum), static_cast<unsigned long long>(units));
}

/// What is added to sums[k] by one of `parts` equal shares of the samples, the at-th of size * parts: the sum of
/// truncate(element(i, place(k), factors[i]) x per_unit), wrapping; a number that is not below limit in magnitude adds
/// nothing, a sample of factor 0 is not read.
/// @param view anything with place and element (rows.cuh). @param grid per_unit 1 / integer_grid::unit(), limit
///   2^fraction_bits.
template <class View>
__device__ inline void add_grid_share(const View& view, isize batch, isize size, const double* factors, grid_scale grid,
                                      isize parts, isize at, std::int64_t* sums) {
  const isize share = (batch + parts - 1) / parts;
  const isize part = at / size, k = at - part * size;
  const isize end = (part + 1) * share < batch ? (part + 1) * share : batch;
  const auto place = view.place(k);
  std::uint64_t sum = 0;
  for (isize i = part * share; i < end; ++i)
    if (factors[i] != 0) sum += grid_units(view.element(i, place, rounded_down<double>(factors[i])), grid);
  add_units(sums + k, sum);
}

/// All elements of one parameter and shares of the samples, a thread each.
template <class View>
__global__ void add_grid_sum(View view, isize batch, isize size, const double* factors, grid_scale grid, isize parts,
                             std::int64_t* sums) {
  const isize threads = static_cast<isize>(blockDim.x);
  for (isize at = blockIdx.x * threads + threadIdx.x; at < size * parts; at += threads * gridDim.x)
    add_grid_share(view, batch, size, factors, grid, parts, at, sums);
}

/// Shares of the samples, so that about 65536 threads are busy where there are samples enough.
[[nodiscard]] constexpr isize grid_sum_parts(isize batch, isize size) noexcept {
  if (size == 0 || batch == 0) return 1;
  const isize wanted = (65536 + size - 1) / size;
  const isize most = (batch + 15) / 16;
  return wanted < most ? wanted : most;
}
[[nodiscard]] constexpr launch_shape grid_sum_shape(isize batch, isize size) noexcept {
  return batch == 0 ? launch_shape{0, 256} : cover(size * grid_sum_parts(batch, size));
}

/// Puts add_grid_sum on the stream.
template <class Work, class View>
void launch_grid_sum(Work& on, const View& view, isize batch, isize size, const double* factors, grid_scale grid,
                     std::int64_t* sums) {
  on.launch("add_grid_sum", grid_sum_shape(batch, size), &add_grid_sum<View>, view, batch, size, factors, grid,
            grid_sum_parts(batch, size), sums);
}

} // namespace dpopt::cuda
