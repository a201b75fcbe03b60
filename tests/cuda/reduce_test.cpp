// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "support/simt/run.hpp"

#include "dpopt/cuda/reduce.cuh"
#include "support/catch.hpp"

#include <vector>

using namespace dpopt;

namespace {

/// out[thread] = three block sums one after the other, which share their memory.
__global__ void three_sums(const double* x, double* out) {
  DPOPT_SHARED(double, per_warp, cuda::most_warps);
  double total = 0;
  for (int j = 0; j < 3; ++j) total = total * 4096 + cuda::block_sum(x[threadIdx.x] + j, per_warp);
  out[threadIdx.x] = total;
}

} // namespace

TEST_CASE("cuda reduce: every thread has the sum of the block, one sum after the other", "[cuda][reduce]") {
  for (const unsigned threads : {32u, 96u, 256u}) {
    std::vector<double> x(threads), out(threads);
    double sum = 0;
    for (unsigned i = 0; i < threads; ++i) sum += x[i] = i % 7;
    double expected = 0;
    for (int j = 0; j < 3; ++j) expected = expected * 4096 + sum + j * static_cast<double>(threads);
    simt::under_all_schedules([&] {
      simt::run<three_sums>({1, threads}, static_cast<const double*>(x.data()), out.data());
      for (const double y : out) REQUIRE(y == expected);
    });
  }
}

TEST_CASE("cuda reduce: a sum has the same bits in all lanes and under all schedules", "[cuda][reduce]") {
  std::vector<double> x(128), out(128);
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = 1.0 / static_cast<double>(i + 1);
  double first = 0;
  simt::under_all_schedules([&] {
    simt::run<three_sums>({1, 128}, static_cast<const double*>(x.data()), out.data());
    if (simt::cfg.seed == 0) first = out[0];
    for (const double y : out) REQUIRE(y == first);
  });
}
