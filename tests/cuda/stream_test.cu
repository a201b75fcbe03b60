// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// What only a real stream shows: steps that nobody waits for, with the two places at which the host must wait by
// itself, and a step that is captured. Elsewhere each call of the double is over when it returns.
#include "support/device_trainer.hpp"

#include "support/catch.hpp"

#include "dpopt/accumulation/integer_grid.hpp"
#include "dpopt/clipping/adaptive.hpp"
#include "dpopt/clipping/per_layer.hpp"
#include "dpopt/cuda/cuda_api.cuh"
#include "dpopt/dp_optimizer/dp_optimizer.hpp"
#include "dpopt/sodium/hardened_gaussian.hpp"
#include "support/toy_training.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <vector>

using namespace dpopt;
using namespace dpopt::test;
using cuda::check_cuda;
using testing::device_trainer;

namespace {

const expected_batch scaling{.expected_batch_size = across_ranks{8.0}};

struct real_stream {
  cudaStream_t handle = nullptr;
  real_stream() { check_cuda(cudaStreamCreateWithFlags(&handle, cudaStreamNonBlocking), "cudaStreamCreate"); }
  ~real_stream() { static_cast<void>(cudaStreamDestroy(handle)); }
  void synchronize() const { check_cuda(cudaStreamSynchronize(handle), "cudaStreamSynchronize"); }
};

/// Keeps the stream busy for some milliseconds, so that the host is ahead of what follows.
__global__ void busy(double* x, std::int64_t rounds) {
  double y = *x;
  for (std::int64_t k = 0; k < rounds; ++k) y = y * 0.5 + 1;
  *x = y;
}

auto clipper_that_learns() {
  return adaptive{per_layer{.max_grad_norm = 0.5},
                  {.count_noise_std = 4.0, .expected_batch_size = across_ranks{8.0}, .greatest_bound = 4}};
}

const microbatches parts{{0, 1, 2}, {3, 4, 5, 6}};
constexpr isize steps = 4;

/// The host's and the device's optimizer over the same steps; nobody waits for the device before the last.
template <class Host, class Device>
void check_unwaited(toy_model<double>& host_model, Host& host, toy_model<double>& device_model, Device& device,
                    const real_stream& stream) {
  std::vector<toy_feeder<double>> numbers(steps); // the device may still read those of all steps
  std::vector<double> delay(1);
  for (isize s = 0; s < steps; ++s) {
    toy_feeder<double> feeder;
    feeder.feed(host, s, parts);
    host.step();
    busy<<<1, 1, 0, stream.handle>>>(delay.data(), 1 << 20);
    numbers[static_cast<std::size_t>(s)].feed(device, s, parts);
    device.step();
  }
  stream.synchronize();
  const bool same = device_model.all_values() == host_model.all_values(); // out of CHECK, which would print them
  CHECK(same);
}

} // namespace

TEST_CASE("steps that nobody waits for give the core's bits with a clipper that learns") {
  const counter_gaussian noise{.noise_multiplier = 0.7, .seed = 20};
  toy_model<double> host_model(toy_sizes()), device_model(toy_sizes());
  dp_optimizer host(host_model.views(), dp_options{}, clipper_that_learns(), noise, scaling, integer_grid{},
                    sgd{.momentum = 0.9}, serial{});
  const real_stream stream;
  device_trainer device(device_model.views(), dp_options{}, cuda::cuda_api<>(stream.handle), clipper_that_learns(),
                        noise, scaling, cuda::integer_grid{}, sgd{.momentum = 0.9}, cuda::serial{});
  check_unwaited(host_model, host, device_model, device, stream);
}

TEST_CASE("steps that nobody waits for give the core's bits with noise that the host draws") {
  const auto key = [] { return hardened_gaussian{.noise_multiplier = 0.7}; };
  toy_model<double> host_model(toy_sizes()), device_model(toy_sizes());
  dp_optimizer host(host_model.views(), dp_options{}, flat{1.5}, key(), scaling, integer_grid{}, sgd{}, serial{});
  const real_stream stream;
  device_trainer device(device_model.views(), dp_options{}, cuda::cuda_api<>(stream.handle), flat{1.5}, key(), scaling,
                        cuda::integer_grid{}, sgd{}, cuda::serial{});
  std::ranges::copy(host.noise().secret(), device.noise().secret().begin());
  check_unwaited(host_model, host, device_model, device, stream);
}

TEST_CASE("a step is captured into a CUDA graph, and its second launch changes nothing") {
  const counter_gaussian noise{.noise_multiplier = 0.7, .seed = 21};
  toy_model<double> host_model(toy_sizes()), device_model(toy_sizes());
  toy_feeder<double> host_feeder, first, captured, last;
  dp_optimizer host(host_model.views(), dp_options{}, flat{1.5}, noise, scaling, integer_grid{}, sgd{}, serial{});
  const real_stream stream;
  device_trainer device(device_model.views(), dp_options{}, cuda::cuda_api<>(stream.handle), flat{1.5}, noise, scaling,
                        cuda::integer_grid{}, sgd{}, cuda::serial{});
  const auto host_step = [&](isize s) {
    host_feeder.feed(host, s, parts);
    host.step();
  };
  host_step(0);
  first.feed(device, 0, parts);
  device.step();

  host_step(1);
  cudaGraph_t graph = nullptr;
  cudaGraphExec_t launched = nullptr;
  check_cuda(cudaStreamBeginCapture(stream.handle, cudaStreamCaptureModeThreadLocal), "cudaStreamBeginCapture");
  captured.feed(device, 1, parts);
  device.step();
  check_cuda(cudaStreamEndCapture(stream.handle, &graph), "cudaStreamEndCapture");
  check_cuda(cudaGraphInstantiate(&launched, graph, 0), "cudaGraphInstantiate");
  for (int launches = 0; launches < 2; ++launches) {
    check_cuda(cudaGraphLaunch(launched, stream.handle), "cudaGraphLaunch");
    stream.synchronize();
    const bool same = device_model.all_values() == host_model.all_values() &&
                      device_model.all_gradients() == host_model.all_gradients();
    INFO("launch " << launches);
    CHECK(same);
  }

  host_step(2); // what the second launch added to the sums is in no later step
  last.feed(device, 2, parts);
  device.step();
  stream.synchronize();
  const bool same = device_model.all_values() == host_model.all_values();
  CHECK(same);
  check_cuda(cudaGraphExecDestroy(launched), "cudaGraphExecDestroy");
  check_cuda(cudaGraphDestroy(graph), "cudaGraphDestroy");
}
