// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// Recorded runs of Opacus, end to end: clip, sum, reduce over threads, scale, update. The folder may be exchanged by
// DPOPT_GOLDEN_OPACUS, so nothing here depends on the cases' names or number.
#include "support/catch.hpp"

#include "dpopt/communication/threads.hpp"
#include "support/golden_suite.hpp"
#include "support/ranks.hpp"

#include <cstddef>
#include <utility>
#include <vector>

using namespace dpopt;
using namespace dpopt::testing;

namespace {

/// Every rank a thread.
struct on_threads {
  static bool wants(const golden_case&) { return true; }

  template <class T, class Make>
  static deviation run(const golden_case& c, const replay_style& style, Make make) {
    std::vector<deviation> by_rank(static_cast<std::size_t>(c.world));
    const auto errors = test::run_ranks(c.world, [&](threads comm) {
      const auto rank = static_cast<std::size_t>(comm.rank());
      by_rank[rank] = replay<T>(c, rank, style, [&](const auto& views, const dp_options& other) {
        return make(views, other, std::move(comm));
      });
    });
    test::rethrow_first(errors);
    deviation all;
    for (const deviation& d : by_rank) all.merge(d);
    return all;
  }
};

} // namespace

TEST_CASE("distributed_per_layer_optimizer reproduces every recorded per-layer run in double") {
  check_distributed<on_threads, double>();
}
TEST_CASE("distributed_per_layer_optimizer reproduces every recorded per-layer run in float") {
  check_distributed<on_threads, float>();
}
TEST_CASE("simple_distributed_per_layer_optimizer reproduces every recorded per-layer run in double") {
  check_simple<on_threads, double>();
}
TEST_CASE("simple_distributed_per_layer_optimizer reproduces every recorded per-layer run in float") {
  check_simple<on_threads, float>();
}
TEST_CASE("dp_optimizer with flat, as_ready reproduces every recorded flat run in double") {
  check_flat<on_threads, double, as_ready>();
}
TEST_CASE("dp_optimizer with flat, as_ready reproduces every recorded flat run in float") {
  check_flat<on_threads, float, as_ready>();
}
TEST_CASE("dp_optimizer with flat, at_step reproduces every recorded flat run in double") {
  check_flat<on_threads, double, at_step>();
}
TEST_CASE("dp_optimizer with flat, at_step reproduces every recorded flat run in float") {
  check_flat<on_threads, float, at_step>();
}
