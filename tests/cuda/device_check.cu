// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
//
// Runs every kernel on a GPU, compares it with the CPU, and prints the bandwidth of each as a share of the device's
// peak. tools/gpu-check builds and runs this.
//
// usage: device_check [NUMBERS]      in the larger arrays, by default 2^25
// Exit status: 0 all as on the CPU; 1 not so, or a call failed; 77 there is no GPU.
#include "dpopt/cuda/cuda_api.cuh"
#include "support/device_checks.hpp"

#include <algorithm>
#include <array>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <string>
#include <vector>

namespace {

using dpopt::isize;
using dpopt::cuda::check_cuda;
using dpopt::testing::kernel_report;

/// Bytes a second that the memory can give, from its clock and the width of its bus; 0 when the device does not say.
double peak_bandwidth(int device) {
  int kilohertz = 0;
  int bits = 0;
  check_cuda(cudaDeviceGetAttribute(&kilohertz, cudaDevAttrMemoryClockRate, device), "cudaDeviceGetAttribute");
  check_cuda(cudaDeviceGetAttribute(&bits, cudaDevAttrGlobalMemoryBusWidth, device), "cudaDeviceGetAttribute");
  return 2.0 * kilohertz * 1e3 * bits / 8; // two transfers a clock
}

/// What a bandwidth is of the device's peak, as text: only when it came from memory, not from the second-level cache,
/// which the smaller arrays fit into.
std::string share_of_peak(double bytes, double seconds, double peak, int device) {
  int cache = 0;
  check_cuda(cudaDeviceGetAttribute(&cache, cudaDevAttrL2CacheSize, device), "cudaDeviceGetAttribute");
  if (peak <= 0) return "unknown";
  if (bytes < 2.0 * cache) return "cached";
  std::array<char, 32> text{};
  std::snprintf(text.data(), text.size(), "%.1f%%", 100 * bytes / seconds / peak);
  return text.data();
}

/// Seconds of one launch: the median of several, each between two events.
double seconds_of(const kernel_report& r, cudaStream_t stream) {
  cudaEvent_t begin = nullptr;
  cudaEvent_t end = nullptr;
  check_cuda(cudaEventCreate(&begin), "cudaEventCreate");
  check_cuda(cudaEventCreate(&end), "cudaEventCreate");
  std::vector<float> milliseconds;
  for (int k = 0; k < 21; ++k) {
    check_cuda(cudaEventRecord(begin, stream), "cudaEventRecord");
    r.launch();
    check_cuda(cudaEventRecord(end, stream), "cudaEventRecord");
    check_cuda(cudaEventSynchronize(end), "cudaEventSynchronize");
    float now = 0;
    check_cuda(cudaEventElapsedTime(&now, begin, end), "cudaEventElapsedTime");
    milliseconds.push_back(now);
  }
  check_cuda(cudaEventDestroy(begin), "cudaEventDestroy");
  check_cuda(cudaEventDestroy(end), "cudaEventDestroy");
  std::nth_element(milliseconds.begin(), milliseconds.begin() + 10, milliseconds.end());
  return milliseconds[10] * 1e-3;
}

int check_device(isize numbers) {
  int devices = 0;
  if (const cudaError_t code = cudaGetDeviceCount(&devices); code != cudaSuccess || devices == 0) {
    std::printf("device_check: no GPU here (%s); nothing was run on a device\n", cudaGetErrorString(code));
    return 77;
  }
  cudaDeviceProp properties{};
  check_cuda(cudaGetDeviceProperties(&properties, 0), "cudaGetDeviceProperties");
  const double peak = peak_bandwidth(0);
  std::printf("%s, sm_%d%d, %.0f GB/s at its peak; arrays of %lld numbers\n", properties.name, properties.major,
              properties.minor, peak * 1e-9, static_cast<long long>(numbers));
  cudaStream_t stream = nullptr;
  check_cuda(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "cudaStreamCreate");

  int wrong = 0;
  std::printf("%-45s %12s %10s %9s %8s\n", "kernel", "differs by", "us", "GB/s", "peak");
  const auto report = [&](const kernel_report& r) {
    if (!r.as_on_cpu()) ++wrong;
    const double seconds = seconds_of(r, stream);
    std::printf("%-45s %12.2g %10.1f %9.1f %8s%s\n", r.name.c_str(), r.difference, seconds * 1e6,
                r.bytes / seconds * 1e-9, share_of_peak(r.bytes, seconds, peak, 0).c_str(),
                r.as_on_cpu() ? "" : "  NOT AS ON THE CPU");
    std::fflush(stdout);
  };
  {
    dpopt::testing::device_checks<dpopt::cuda::cuda_api<>> checks(dpopt::cuda::cuda_api<>(stream), numbers, report);
    checks.run();
  }
  check_cuda(cudaStreamDestroy(stream), "cudaStreamDestroy");
  std::printf(wrong == 0 ? "all kernels as on the CPU\n" : "%d comparisons failed\n", wrong);
  return wrong == 0 ? 0 : 1;
}

} // namespace

int main(int count, char** words) {
  try {
    const isize numbers = count > 1 ? std::max(4096LL, std::atoll(words[1])) : isize{1} << 25;
    return check_device(numbers);
  } catch (const std::exception& e) {
    std::printf("device_check: %s\n", e.what());
    return 1;
  }
}
