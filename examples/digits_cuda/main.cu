// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// ../digits/training.hpp with everything private on a GPU: norms, clipping, sums, noise and Adam. The network itself
/// stays the same Eigen code on the host, so its inputs and output gradients travel to the device for each layer and
/// its weights come back after each step; what differs from ../digits/main.cpp is the types of views, sources and
/// policies.
#include "../digits/training.hpp"

#include <dpopt/cuda/cuda_api.cuh>
#include <dpopt/cuda/cuda_mpi.cuh>
#include <dpopt/cuda/dp_optimizer.cuh>
#include <dpopt/cuda/linear_source.cuh>
#include <dpopt/cuda/materialized_source.cuh>
#include <dpopt/dpopt.hpp>

#include <cuda_runtime.h>
#include <mpi.h>

#include <cstddef>
#include <vector>

namespace digits {
namespace {

namespace gpu = dpopt::cuda;
using gpu_api = gpu::cuda_api<>;

/// One of the node's devices for this rank, and a stream on it.
class own_stream {
public:
  own_stream() {
    int devices = 0;
    gpu::check_cuda(cudaGetDeviceCount(&devices), "cudaGetDeviceCount");
    MPI_Comm node = MPI_COMM_NULL;
    MPI_Comm_split_type(MPI_COMM_WORLD, MPI_COMM_TYPE_SHARED, 0, MPI_INFO_NULL, &node);
    int rank_on_node = 0;
    MPI_Comm_rank(node, &rank_on_node);
    MPI_Comm_free(&node);
    gpu::check_cuda(cudaSetDevice(rank_on_node % devices), "cudaSetDevice");
    gpu::check_cuda(cudaStreamCreateWithFlags(&handle_, cudaStreamNonBlocking), "cudaStreamCreate");
  }
  own_stream(const own_stream&) = delete;
  own_stream& operator=(const own_stream&) = delete;
  ~own_stream() { static_cast<void>(cudaStreamDestroy(handle_)); }
  [[nodiscard]] cudaStream_t get() const noexcept { return handle_; }

private:
  cudaStream_t handle_ = nullptr;
};

/// A matrix's copy on the device, row-major as the matrix.
using device_matrix = gpu::device_vector<float, gpu_api>;

class device {
public:
  explicit device(mlp& net) : net_(net), api_(stream_.get()), work_(api_) {
    for (std::size_t l = 0; l < net.layers(); ++l) {
      weights_.emplace_back();
      upload(net.weight(l), weights_.back());
      parameters_.push_back({net.name(l), weights_.back().data(), net.weight(l).size()});
    }
    activations_.resize(net.layers());
    errors_.resize(net.layers());
  }

  /// COLLECTIVE. @throw dpopt::error, alike on all ranks.
  [[nodiscard]] auto optimizer(const privacy& p) {
    if (p.secure_mode)
      throw dpopt::invalid_argument("secure mode on a device is hardened_gaussian on cuda::integer_grid: two other "
                                    "policy types, which this program does not name");
    return gpu::dp_optimizer(parameters_, dpopt::dp_options{}, api_, dpopt::per_layer{.max_grad_norm = p.bounds},
                             dpopt::counter_gaussian{.noise_multiplier = p.noise_multiplier, .seed = p.seed},
                             dpopt::expected_batch{.expected_batch_size = p.expected_batch_size},
                             dpopt::adam{.learning_rate = p.learning_rate},
                             gpu::cuda_mpi<gpu_api, dpopt::mpi>(dpopt::mpi(MPI_COMM_WORLD), MPI_COMM_WORLD));
  }

  template <class Optimizer>
  void linear_ready(Optimizer& optimizer, dpopt::isize p, const matrix& activations, const matrix& errors) {
    const auto layer = static_cast<std::size_t>(p);
    upload(activations, activations_[layer]);
    upload(errors, errors_[layer]);
    optimizer.gradient_ready(p, gpu::linear_weight<float>{activations_[layer].data(), errors_[layer].data(),
                                                          activations.rows(), activations.cols(), errors.cols()});
  }
  template <class Optimizer>
  void materialized_ready(Optimizer& optimizer, dpopt::isize p, const matrix& rows) {
    device_matrix& copy = activations_[static_cast<std::size_t>(p)];
    upload(rows, copy);
    optimizer.gradient_ready(p, gpu::materialized<float>(copy.data(), rows.rows(), rows.cols()));
  }

  /// Waits for the step and fetches the weights.
  void after_step() {
    for (std::size_t l = 0; l < weights_.size(); ++l)
      work_.copy(net_.weight(l).data(), weights_[l].data(), bytes_of(net_.weight(l)), gpu::copy_direction::to_host,
                 "copy weights");
    api_.synchronize(api_.stream(), "synchronize weights");
  }

private:
  static std::size_t bytes_of(const matrix& m) { return static_cast<std::size_t>(m.size()) * sizeof(float); }

  /// The matrix may change once this has returned: CUDA copies pageable memory before it does.
  void upload(const matrix& from, device_matrix& to) {
    to.reserve(api_, from.size());
    work_.copy(to.data(), from.data(), bytes_of(from), gpu::copy_direction::to_device, "copy matrix");
  }

  mlp& net_;
  own_stream stream_;
  gpu_api api_;
  gpu::device_work<gpu_api> work_;
  std::vector<device_matrix> weights_, activations_, errors_; // by layer
  std::vector<gpu::parameter_view<float>> parameters_;
};

} // namespace
} // namespace digits

int main(int argc, char** argv) { return digits::run<digits::device>("digits_cuda", argc, argv); }
