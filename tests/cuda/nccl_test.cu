// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// NCCL itself, over the one rank that one device has: that its calls are the library's, and their order on the stream.
// What ranks hear of each other's failures is in nccl_ranks_test.cpp. tools/gpu-check leaves it out where there is no
// NCCL.
#include "support/catch.hpp"

#include "dpopt/cuda/cuda_api.cuh"
#include "dpopt/cuda/device_communicator.hpp"
#include "dpopt/cuda/nccl.cuh"

#include <cstdint>
#include <string>
#include <vector>

using namespace dpopt;
using cuda::check_cuda;

namespace {

using device_sums = cuda::nccl<dpopt::serial>;
static_assert(cuda::DeviceCommunicator<device_sums, cuda::cuda_api<>, float> && cuda::AbandonsSums<device_sums>);
static_assert(cuda::DeviceCommunicator<device_sums, cuda::cuda_api<>, std::int64_t>);

struct real_stream {
  cudaStream_t handle = nullptr;
  real_stream() { check_cuda(cudaStreamCreateWithFlags(&handle, cudaStreamNonBlocking), "cudaStreamCreate"); }
  ~real_stream() { static_cast<void>(cudaStreamDestroy(handle)); }
};

/// In device memory and back: the sum over one rank is what was there.
template <class V>
bool left_as_they_are(device_sums& sums, cuda::device_work<cuda::cuda_api<>>& on, isize n) {
  std::vector<V> numbers(static_cast<std::size_t>(n)), back(numbers.size());
  for (std::size_t i = 0; i < numbers.size(); ++i) numbers[i] = static_cast<V>(i * 3 + 1);
  const std::size_t bytes = numbers.size() * sizeof(V);
  cuda::device_vector<V, cuda::cuda_api<>> memory(on.device(), n);
  on.copy(memory.data(), numbers.data(), bytes, cuda::copy_direction::to_device, "copy numbers");
  sums.sum(on, memory.data(), n);
  on.copy(back.data(), memory.data(), bytes, cuda::copy_direction::to_host, "copy sums");
  on.device().synchronize(on.stream(), "synchronize sums");
  return back == numbers;
}

} // namespace

TEST_CASE("NCCL's sum over one rank leaves every kind of number as it is, until it is abandoned") {
  const real_stream stream;
  cuda::device_work<cuda::cuda_api<>> on{cuda::cuda_api<>(stream.handle)};
  device_sums sums{dpopt::serial()};
  for (const isize n : {0, 1, 257, 100000}) {
    INFO("count " << n);
    CHECK(left_as_they_are<float>(sums, on, n));
    CHECK(left_as_they_are<double>(sums, on, n));
    CHECK(left_as_they_are<std::int64_t>(sums, on, n));
    CHECK(left_as_they_are<std::uint64_t>(sums, on, n));
  }
  sums.abandon();
  CHECK_THROWS_WITH(left_as_they_are<float>(sums, on, 1), contains_text("was abandoned; make a new one"));
}
