// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Runs CUDA kernels on the CPU and watches them: include this before any .cuh and compile with g++ or clang.
///
/// Threads are fibers of one thread of the operating system, 32 to a warp, in an order that follows from
/// simt::cfg.seed: a kernel that is right gives the same numbers for every seed, one that needs a barrier it does not
/// have usually does not. Stopped with a simt::error, in every build:
///  - barriers that not all threads of a block come to, or at different places, or after some have returned;
///  - warp operations whose mask leaves out the caller, names lanes that have returned or do not exist, or whose lanes
///    disagree; shuffles from lanes outside of the mask;
///  - indices outside of shared arrays, more shared memory than there is, vector loads that are not aligned (those of
///    vector_load.cuh); what is written less than 64 bytes outside of a shared array through a pointer into it.
/// Shared memory is NaN, or -1, until written. With -fsanitize=thread of g++ (clang's takes switches of fibers for
/// races): races between threads of a block, and of blocks up to 2048 threads apart. With -fsanitize=address: reads and
/// writes outside of any memory. With -fsanitize=undefined: overflow of a signed index.
///
/// What it cannot show:
///  - speed; weak memory order beyond races; -ftz, -prec-div and other modes of nvcc's arithmetic;
///  - blocks that run at the same time: they run one after the other, in order or in reverse, and a loop that waits for
///    another thread hangs; so a race is seen by -fsanitize=thread or, within a block, when one of the four schedules
///    changes the numbers. A thread goes as far as its next barrier or warp operation before another one does anything;
///  - anything asynchronous: a launch is over when it returns, so a host that looks too early is not noticed (on a
///    device tests/cuda/stream_test.cu is);
///  - one barrier or warp operation, in one function, that is reached from two places of a kernel: it counts as one;
///  - indices of `unsigned`, which wrap around: the rule is isize (dialect.cuh);
///  - pointers that leave a shared array by more than 64 bytes and hit another;
///  - more threads than __launch_bounds__, more registers or larger arguments than a device has.
///
///     simt::launch(&kernel<float>, dim3(shape.blocks), dim3(shape.threads), x, n);
///
/// In this order: sanitizers, fibers, blocks (scheduler and launch), shared_memory, warps (operations and atomics).
/// Under nvcc the same names run on a device (on_device.hpp).
#pragma once

#if defined(__CUDACC__)
#include "support/simt/on_device.hpp"
#else

#define DPOPT_SIMT_EXECUTOR 1

#include "support/simt/blocks.hpp"
#include "support/simt/far_memory.hpp"
#include "support/simt/shared_memory.hpp"
#include "support/simt/warps.hpp"

using simt::dim3;

#define __global__
#define __device__
#define __host__
#define __forceinline__ inline
#define __launch_bounds__(...)
#define threadIdx (::simt::running->current->index)
#define blockIdx (::simt::running->block_index)
#define blockDim (::simt::running->block)
#define gridDim (::simt::running->grid)

#endif
