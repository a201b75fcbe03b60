// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// What tests of kernels share: run one in the shape that its header gives, under several schedules.
#pragma once

#include "support/simt/simt.hpp"

#include "dpopt/cuda/dialect.cuh"

namespace simt {

/// Launches Kernel(arguments...); a shape of no blocks launches nothing.
template <auto Kernel, class... Arguments>
void run(dpopt::cuda::launch_shape shape, Arguments... arguments) {
  if (shape.blocks == 0) return;
  launch(Kernel, dim3(shape.blocks), dim3(shape.threads), arguments...);
}

/// Calls body() under four schedules: threads in their order, in reverse (blocks too), shuffled, and one warp after the
/// other, each as far as it comes.
template <class Body>
void under_all_schedules(Body&& body) {
  struct restored {
    unsigned seed = cfg.seed;
    ~restored() { cfg.seed = seed; }
  } const after;
  for (unsigned seed = 0; seed < 4; ++seed) {
    cfg.seed = seed;
    body();
  }
}

} // namespace simt
