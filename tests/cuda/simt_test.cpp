// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
//
// executor only: it is the executor that is tested, by kernels that are wrong
//
// The executor of kernels must see what it is there to see. Each kernel here is wrong in one way, or right.
#include "support/simt/run.hpp"

#include "dpopt/cuda/vector_load.cuh"
#include "support/catch.hpp"

#include <cmath>
#include <cstdint>
#include <string>
#include <vector>

using dpopt::cuda::all_lanes;

namespace {

/// What the launch is stopped with; empty when it is not.
template <class Kernel, class... A>
std::string problem_of(Kernel kernel, unsigned threads, A... a) {
  try {
    simt::launch(kernel, dim3(1), dim3(threads), a...);
  } catch (const simt::error& e) {
    return e.what();
  }
  return {};
}

__global__ void reads_neighbour(bool with_barrier, const double* x, double* out) {
  DPOPT_SHARED(double, tile, 64);
  tile[threadIdx.x] = x[threadIdx.x];
  if (with_barrier) __syncthreads();
  out[threadIdx.x] = tile[(threadIdx.x + 1) % 64];
}

/// Whether the kernel above is right under each of four schedules.
int right_schedules(bool with_barrier) {
  std::vector<double> x(64), out(64);
  for (std::size_t i = 0; i < 64; ++i) x[i] = static_cast<double>(i);
  int right = 0;
  simt::under_all_schedules([&] {
    simt::launch(reads_neighbour, dim3(1), dim3(64), with_barrier, static_cast<const double*>(x.data()), out.data());
    bool same = true;
    for (std::size_t i = 0; i < 64; ++i) same = same && out[i] == x[(i + 1) % 64];
    right += same ? 1 : 0;
  });
  return right;
}

} // namespace

TEST_CASE("simt: a barrier in a branch is refused", "[simt]") {
  const auto kernel = [] {
    if (threadIdx.x < 7) __syncthreads();
    else __syncthreads();
  };
  CHECK_THAT(problem_of(kernel, 64), contains_text("different __syncthreads") && contains_text("simt_test.cpp:"));
}

TEST_CASE("simt: a barrier after some threads have returned is refused", "[simt]") {
  const auto kernel = [] {
    if (threadIdx.x == 3) return;
    __syncthreads();
  };
  CHECK_THAT(problem_of(kernel, 32), contains_text("threads of the block have returned"));
}

TEST_CASE("simt: a deadlock is an error and not a hang", "[simt]") {
  const auto kernel = [] {
    if (threadIdx.x < 16) __syncwarp();
    else __syncthreads();
  };
  CHECK_THAT(problem_of(kernel, 32), contains_text("deadlock"));
}

TEST_CASE("simt: mistaken masks are refused", "[simt]") {
  const auto in_a_branch = [] {
    if (threadIdx.x < 16) (void)__shfl_down_sync(all_lanes, 1.0, 8);
  };
  CHECK_THAT(problem_of(in_a_branch, 32), contains_text("a lane that has returned"));
  CHECK_THAT(problem_of(in_a_branch, 16), contains_text("lanes that the block does not have"));
  const auto not_in_it = [] { (void)__ballot_sync(1u, 1); };
  CHECK_THAT(problem_of(not_in_it, 32), contains_text("not in its own mask"));
  const auto disagree = [] { __syncwarp(threadIdx.x == 0 ? 0xFFu : all_lanes); };
  CHECK_THAT(problem_of(disagree, 32), contains_text("give different masks"));
  const auto different_operations = [] {
    if (threadIdx.x % 2 == 0) (void)__any_sync(all_lanes, 1);
    else __syncwarp();
  };
  CHECK_THAT(problem_of(different_operations, 32), contains_text("different warp operations"));
  const auto one_line = [] { (void)(threadIdx.x % 2 == 0 ? __any_sync(all_lanes, 1) : __any_sync(all_lanes, 0)); };
  CHECK_THAT(problem_of(one_line, 32), contains_text("different warp operations"));
  const auto reads_outside = [] {
    if (threadIdx.x < 16) (void)__shfl_sync(0xFFFFu, 1, 20);
  };
  CHECK_THAT(problem_of(reads_outside, 32), contains_text("not in the mask"));
}

TEST_CASE("simt: a missing barrier shows in a schedule", "[simt]") {
  CHECK(right_schedules(true) == 4);
  if (!simt::sanitizer::sees_threads) CHECK(right_schedules(false) < 4); // which would be reported, and rightly
}

TEST_CASE("simt: shared memory is NaN in each block until it is written", "[simt]") {
  const auto kernel = [](double* out) {
    DPOPT_SHARED(double, tile, 8);
    if (threadIdx.x == 0) {
      out[blockIdx.x] = tile[5];
      tile[5] = 1;
    }
  };
  std::vector<double> out(3, 0.0);
  simt::launch(kernel, dim3(3), dim3(32), out.data());
  for (const double x : out) CHECK(std::isnan(x));
}

TEST_CASE("simt: indices, alignment and sizes are checked", "[simt]") {
  const auto index = [](int i) {
    DPOPT_SHARED(float, tile, 32);
    if (threadIdx.x == 7) tile[i] = 1;
  };
  CHECK(problem_of(index, 32, 31).empty());
  CHECK_THAT(problem_of(index, 32, 32), contains_text("outside of a shared array"));
  CHECK_THAT(problem_of(index, 32, -1), contains_text("outside of a shared array"));
  if (!simt::sanitizer::sees_memory && !simt::sanitizer::sees_threads) { // AddressSanitizer would end the program
    const auto behind = [](int i) {
      DPOPT_SHARED(float, tile, 32);
      DPOPT_SHARED(float, other, 3);
      other[0] = 1;
      float* const x = tile;
      x[i] = 1;
    };
    CHECK(problem_of(behind, 32, 31).empty());
    CHECK_THAT(problem_of(behind, 32, 32), contains_text("in front of or behind a shared array (block 0)"));
    CHECK_THAT(problem_of(behind, 32, -1), contains_text("in front of or behind a shared array"));
    CHECK_THAT(problem_of(behind, 32, 32 + 16 + 3), contains_text("in front of or behind a shared array"));
  }
  const auto large = [] {
    DPOPT_SHARED(double, tile, 6145);
    tile[0] = 1;
  };
  CHECK_THAT(problem_of(large, 32), contains_text("more shared memory"));
  alignas(16) float x[8] = {};
  const auto vector = [](const float* p) { (void)dpopt::cuda::load_vector(p); };
  CHECK(problem_of(vector, 1, static_cast<const float*>(x + 4)).empty());
  CHECK_THAT(problem_of(vector, 1, static_cast<const float*>(x + 1)), contains_text("not aligned"));
  const auto nothing = [] {};
  CHECK_THROWS_WITH(simt::launch(nothing, dim3(0), dim3(32)), contains_text("at least one block"));
  CHECK_THROWS_WITH(simt::launch(nothing, dim3(1), dim3(1025)), contains_text("1 to 1024 threads"));
  CHECK_THROWS_WITH(simt::launch(nothing, dim3(1, 65536), dim3(1)), contains_text("2^16 along y"));
}

TEST_CASE("simt: an error names the place, the block and the thread", "[simt]") {
  const auto kernel = [] {
    if (blockIdx.x == 2 && threadIdx.x == 9) __syncwarp(1u);
  };
  CHECK_THROWS_WITH(simt::launch(kernel, dim3(4), dim3(32)),
                    contains_text("simt_test.cpp:") && contains_text("block 2,0,0, thread 9, mask 00000001"));
}

TEST_CASE("simt: shuffles and votes give what CUDA's give", "[simt]") {
  const auto kernel = [](int* out) {
    const int lane = static_cast<int>(threadIdx.x);
    int* const mine = out + 8 * lane;
    mine[0] = __shfl_sync(all_lanes, lane, 3);
    mine[1] = __shfl_sync(all_lanes, lane, 3, 8);
    mine[2] = __shfl_down_sync(all_lanes, lane, 5);
    mine[3] = __shfl_up_sync(all_lanes, lane, 5, 16);
    mine[4] = __shfl_xor_sync(all_lanes, lane, 17);
    mine[5] = static_cast<int>(__ballot_sync(all_lanes, lane % 3 == 0));
    mine[6] = __any_sync(all_lanes, lane == 4);
    mine[7] = __all_sync(all_lanes, lane != 4);
  };
  std::vector<int> out(8 * 32);
  simt::under_all_schedules([&] {
    simt::launch(kernel, dim3(1), dim3(32), out.data());
    for (int lane = 0; lane < 32; ++lane) {
      const int* const mine = out.data() + 8 * lane;
      CHECK(mine[0] == 3);
      CHECK(mine[1] == lane / 8 * 8 + 3);
      CHECK(mine[2] == (lane + 5 < 32 ? lane + 5 : lane));
      CHECK(mine[3] == (lane % 16 >= 5 ? lane - 5 : lane));
      CHECK(mine[4] == (lane ^ 17));
      CHECK(mine[5] == 0x49249249);
      CHECK(mine[6] == 1);
      CHECK(mine[7] == 0);
    }
  });
}

TEST_CASE("simt: atomics count every thread", "[simt]") {
  const auto kernel = [](double* sum, unsigned long long* count, int* largest, int* first) {
    atomicAdd(sum, 0.5);
    atomicAdd(count, 1);
    atomicMax(largest, static_cast<int>(threadIdx.x));
    atomicCAS(first, -1, static_cast<int>(blockIdx.x));
  };
  double sum = 0;
  unsigned long long count = 0;
  int largest = 0, first = -1;
  simt::launch(kernel, dim3(3), dim3(32), &sum, &count, &largest, &first);
  CHECK(sum == 48);
  CHECK(count == 96);
  CHECK(largest == 31);
  CHECK(first == 0);
}
