// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// ranks: 2 3
// The recorded runs of Opacus whose world is the number of processes. As golden_opacus_test.cpp, over MPI.
#include "support/catch.hpp"

#include "dpopt/mpi/mpi.hpp"
#include "support/golden_suite.hpp"

#include <mpi.h>

#include <cstddef>
#include <utility>

using namespace dpopt;
using namespace dpopt::testing;

namespace {

/// This process is one of the ranks.
struct on_processes {
  static int size() {
    int n = 0;
    MPI_Comm_size(MPI_COMM_WORLD, &n);
    return n;
  }
  static bool wants(const golden_case& c) { return c.world == size(); }

  template <class T, class Make>
  static deviation run(const golden_case& c, const replay_style& style, Make make) {
    mpi comm(MPI_COMM_WORLD);
    const auto rank = static_cast<std::size_t>(comm.rank());
    return replay<T>(c, rank, style,
                     [&](const auto& views, const dp_options& other) { return make(views, other, std::move(comm)); });
  }
};

} // namespace

TEST_CASE("distributed_per_layer_optimizer reproduces every recorded per-layer run over MPI") {
  check_distributed<on_processes, double>();
  check_distributed<on_processes, float>();
}
TEST_CASE("simple_distributed_per_layer_optimizer reproduces every recorded per-layer run over MPI") {
  check_simple<on_processes, double>();
  check_simple<on_processes, float>();
}
TEST_CASE("dp_optimizer with flat, as_ready reproduces every recorded flat run over MPI") {
  check_flat<on_processes, double, as_ready>();
  check_flat<on_processes, float, as_ready>();
}
TEST_CASE("dp_optimizer with flat, at_step reproduces every recorded flat run over MPI") {
  check_flat<on_processes, double, at_step>();
  check_flat<on_processes, float, at_step>();
}
