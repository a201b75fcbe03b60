// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// Which numbers of the noise's stream a run uses: none twice, over parameters, steps, microbatches, virtual and failed
// steps, ranks, and the counts of a clipper that learns. On a device: cuda/device_release_test.cpp. Over resumed runs:
// checkpoint/checkpoint_test.cpp. That addresses which differ have counters which differ is
// noise/stream_address_test.cpp.
#include "support/catch.hpp"

#include "dpopt/accounting/no_accountant.hpp"
#include "dpopt/clipping/adaptive.hpp"
#include "dpopt/clipping/norm_quantiles.hpp"
#include "dpopt/clipping/per_layer.hpp"
#include "dpopt/communication/threads.hpp"
#include "dpopt/dp_optimizer/dp_optimizer.hpp"
#include "dpopt/noise/placement.hpp"
#include "support/ranks.hpp"
#include "support/recording_noise.hpp"
#include "support/toy_training.hpp"

#include <cstddef>
#include <cstdint>
#include <set>
#include <tuple>
#include <utility>
#include <vector>

using namespace dpopt;
using namespace dpopt::test;

namespace {

constexpr isize numbers = 12 + 3 + 1 + 1500 + 7; // of the toy model
constexpr isize layers = 5;
constexpr isize releases = 4;

/// Learns a bound for each layer.
auto learning() { return adaptive{per_layer{0.6}, {.count_noise_std = 4, .expected_batch_size = across_ranks{23}}}; }

/// Six steps: one virtual, one that fails on the last rank, four released, of 1 to 3 microbatches each.
template <class Placed, class Clipper = decltype(learning())>
std::vector<record> train(int ranks, const Clipper& clipper = learning()) {
  std::vector<record> out(static_cast<std::size_t>(ranks));
  rethrow_first(run_ranks(ranks, [&](threads comm) {
    const int rank = comm.rank();
    toy_model<double> model(toy_sizes());
    const recording_noise noise{{.noise_multiplier = 0.8, .seed = 11}};
    dp_optimizer opt(model.views(), dp_options{.bucket_elements = 16}, clipper, std::move(comm), noise, Placed{},
                     expected_batch{across_ranks{23}}, no_accountant{});
    toy_feeder<double> feeder;
    for (isize s = 0; s < 6; ++s) {
      const bool fails = s == 2;
      if (s == 1) opt.signal_skip_step();
      try {
        feeder.feed(opt, s, uneven_share(23, s, rank, ranks));
        if (fails && rank == ranks - 1) opt.gradient_ready(0, materialized<double>(model.values[0].data(), 1, 12));
        opt.step();
      } catch (const dpopt::error&) {
        if (!fails) throw;
      }
    }
    out[static_cast<std::size_t>(rank)] = std::move(*noise.into);
  }));
  return out;
}

} // namespace

TEST_CASE("replicated: every rank uses the same numbers, each once, and none of a failed or virtual step") {
  for (const int ranks : {1, 3}) {
    const auto by_rank = train<replicated>(ranks);
    for (const record& r : by_rank) {
      CHECK(r.distinct());
      CHECK(r.used == by_rank[0].used);
      CHECK(r.count_of(purpose::gradient) == releases * numbers);
      CHECK(r.count_of(purpose::side_scalars) == releases * layers);
      CHECK(r.steps() == std::set<std::uint64_t>{0, 2, 3, 4}); // 1 was given to the failed step and to no other
    }
  }
}

TEST_CASE("independent_shares: no number twice on any rank or on two, also when a step fails after noise was sent") {
  const auto by_rank = train<independent_shares>(3);
  record all;
  for (const record& r : by_rank) {
    all.used.insert(r.used.begin(), r.used.end());
    CHECK(r.count_of(purpose::gradient) >= releases * numbers);
    CHECK(r.count_of(purpose::side_scalars) >= releases * layers);
  }
  CHECK(all.distinct());
  CHECK(by_rank[0].steps() == std::set<std::uint64_t>{0, 1, 2, 3, 4}); // the failed step's shares are spent
}

TEST_CASE("sharded: each number of a gradient is used on one rank, once; the counts' on all") {
  const auto by_rank = train<sharded>(3);
  record all;
  for (const record& r : by_rank) {
    CHECK(r.distinct());
    CHECK(r.count_of(purpose::side_scalars) == releases * layers);
    for (const place& p : r.used)
      if (std::get<0>(p) == purpose::gradient) all.used.insert(p);
  }
  CHECK(all.distinct());
  CHECK(all.used.size() == releases * numbers);
}

TEST_CASE("root_before_reduction: the root alone draws, no number twice") {
  const auto by_rank = train<root_before_reduction>(3);
  CHECK(by_rank[0].distinct());
  CHECK(by_rank[0].count_of(purpose::gradient) >= releases * numbers);
  CHECK(by_rank[1].used.empty());
  CHECK(by_rank[2].used.empty());
}

TEST_CASE("norm_quantiles: each count of each histogram has a number of its own, beside those of the bounds") {
  const norm_quantiles counting{learning(), {.edges = {0.1, 1, 10}, .count_noise_std = 4}};
  constexpr isize counts = layers * (1 + 4); // bits of adaptive and four cells
  for (const record& r : train<replicated>(2, counting)) {
    CHECK(r.distinct());
    CHECK(r.count_of(purpose::gradient) == releases * numbers);
    CHECK(r.count_of(purpose::side_scalars) == releases * counts);
  }
  record all;
  for (const record& r : train<independent_shares>(3, counting)) {
    all.used.insert(r.used.begin(), r.used.end());
    CHECK(r.count_of(purpose::side_scalars) >= releases * counts);
  }
  CHECK(all.distinct());
}
