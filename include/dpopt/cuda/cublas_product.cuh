// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The gradient product of linear layers by cuBLAS, on one stream, with a workspace of its own so that the calls can be
/// captured into a graph.
#pragma once

#include "dpopt/core/types.hpp"
#include "dpopt/cuda/device_error.hpp"

#include <cublas_v2.h>

#include <cstdint>
#include <memory>
#include <type_traits>

namespace dpopt::cuda {

/// Owner of a cuBLAS handle; copies share it. Arithmetic is never narrower than the numbers (no TF32): what a sample
/// adds must not exceed what its norm says by more than the roundings that the norm accounts for.
class cublas_product {
public:
  /// Bytes of workspace that cuBLAS is given: what NVIDIA recommends for compute capability 9.
  static constexpr std::size_t workspace_bytes = std::size_t{32} << 20;

  /// @param workspace workspace_bytes of device memory that outlive this object.
  cublas_product(cudaStream_t stream, void* workspace) : stream_(stream) {
    cublasHandle_t handle = nullptr;
    check(cublasCreate(&handle), "cublasCreate");
    handle_.reset(handle, [](cublasHandle_t h) { static_cast<void>(cublasDestroy(h)); });
    check(cublasSetStream(handle, stream), "cublasSetStream"); // before the workspace, which it would reset
    check(cublasSetWorkspace(handle, workspace, workspace_bytes), "cublasSetWorkspace");
    check(cublasSetMathMode(handle, CUBLAS_PEDANTIC_MATH), "cublasSetMathMode");
  }

  /// c += a^T b for row-major a [k x m], b [k x n], c [m x n]. cuBLAS is column-major: to it these are a^T, b^T, c^T.
  template <class V>
  void add(isize m, isize n, isize k, const V* a, const V* b, V* c, call_site call) const {
    if (m == 0 || n == 0 || k == 0) return;
    const V one = 1;
    if constexpr (std::is_same_v<V, float>)
      check(cublasSgemm_64(handle_.get(), CUBLAS_OP_N, CUBLAS_OP_T, n, m, k, &one, b, n, a, m, &one, c, n), call);
    else {
      static_assert(std::is_same_v<V, double>);
      check(cublasDgemm_64(handle_.get(), CUBLAS_OP_N, CUBLAS_OP_T, n, m, k, &one, b, n, a, m, &one, c, n), call);
    }
  }

private:
  void check(cublasStatus_t status, call_site call) const {
    if (status != CUBLAS_STATUS_SUCCESS)
      throw_device_error(call, reinterpret_cast<std::uintptr_t>(stream_),
                         message("cuBLAS: ", cublasGetStatusString(status)), static_cast<int>(status));
  }

  cudaStream_t stream_;
  std::shared_ptr<cublasContext> handle_;
};

} // namespace dpopt::cuda
