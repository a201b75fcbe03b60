// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The CUDA C++ that dpopt's kernels are written in, and the only place that knows who compiles it: nvcc, or g++ and
/// clang against an executor that runs kernels on the CPU and was included before.
///
/// Rules for a kernel, so that both compilers agree:
/// - a `__global__ void` function template (nvcc has no inline kernels) whose arguments are trivially copyable values;
/// - shared memory by DPOPT_SHARED(type, name, count), static, at the top of the kernel;
/// - warps of 32; shuffles with an explicit mask; no dynamic parallelism, textures or inline PTX;
/// - element and sample indices are isize, computed in 64 bits before anything is multiplied;
/// - products are never fused with sums (nvcc: --fmad=false, which dpopt::cuda passes on), so that noise and optimizer
///   updates have the CPU's bits.
#pragma once

#include "dpopt/core/types.hpp"

#if defined(__CUDACC__)
#include <cuda_runtime.h>
#define DPOPT_SHARED(type, name, count) __shared__ type name[count]
#elif defined(DPOPT_SIMT_EXECUTOR)
#define DPOPT_SHARED(type, name, count) auto& name = ::simt::shared<type, count>([] {})
#else
#error "dpopt/cuda: compile this with nvcc, or include an executor of kernels (tests/support/simt/simt.hpp) before it"
#endif

namespace dpopt::cuda {

inline constexpr int warp_size = 32;
inline constexpr unsigned all_lanes = 0xFFFFFFFFu;

/// Blocks and threads of one launch.
struct launch_shape {
  unsigned blocks;  ///< 0: there is nothing to do, and nothing may be launched
  unsigned threads; ///< a multiple of warp_size
};

/// Blocks of `threads` that cover n items, `per_thread` of them each, but not more than `most` blocks: kernels stride
/// over the rest.
[[nodiscard]] constexpr launch_shape cover(isize n, int threads = 256, isize per_thread = 1,
                                           isize most = isize{1} << 20) noexcept {
  const isize per_block = threads * per_thread;
  const isize blocks = n / per_block + (n % per_block == 0 ? 0 : 1);
  return {static_cast<unsigned>(blocks < most ? blocks : most), static_cast<unsigned>(threads)};
}

} // namespace dpopt::cuda
