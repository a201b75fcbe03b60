// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// Which numbers of the noise's stream a run uses: none twice, over parameters, steps, microbatches, virtual and failed
// steps, ranks, and the counts of a clipper that learns. That addresses which differ have counters which differ is
// noise/stream_address_test.cpp.
#include "support/catch.hpp"

#include "dpopt/accounting/no_accountant.hpp"
#include "dpopt/clipping/adaptive.hpp"
#include "dpopt/clipping/per_layer.hpp"
#include "dpopt/communication/threads.hpp"
#include "dpopt/dp_optimizer/dp_optimizer.hpp"
#include "dpopt/noise/counter_gaussian.hpp"
#include "dpopt/noise/placement.hpp"
#include "support/ranks.hpp"
#include "support/toy_training.hpp"

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <set>
#include <span>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

using namespace dpopt;
using namespace dpopt::test;

namespace {

using place = std::tuple<purpose, std::uint32_t, std::uint64_t, std::uint32_t, std::uint64_t>;
struct record {
  std::multiset<place> used; ///< one entry each time a number at this address was added to something
};

/// counter_gaussian that writes down what it adds; what it is asked for at std 1 is the optimizer's probe of the last
/// number of a step, which is thrown away.
struct recording_noise {
  using role = roles::noise;
  static constexpr bool addressable = true;
  counter_gaussian inner;
  std::shared_ptr<record> into = std::make_shared<record>();

  [[nodiscard]] double multiplier() const { return inner.multiplier(); }
  void validate() const { inner.validate(); }
  void draw_secret() { inner.draw_secret(); }
  [[nodiscard]] std::span<std::byte> secret() { return inner.secret(); }
  [[nodiscard]] bool reproducible() const { return inner.reproducible(); }
  [[nodiscard]] static std::string describe() { return "recording_noise"; }
  template <std::floating_point V>
    requires NoiseMechanism<counter_gaussian, V>
  void add(const address& where, double std, V* x, isize count) {
    if (std != 1.0)
      for (isize i = 0; i < count; ++i)
        into->used.insert(
            {where.what, where.lane, where.step, where.parameter, where.element + static_cast<std::uint64_t>(i)});
    inner.add(where, std, x, count);
  }
};

constexpr isize numbers = 12 + 3 + 1 + 1500 + 7; // of the toy model
constexpr isize layers = 5;
constexpr isize releases = 4;

/// Six steps: one virtual, one that fails on the last rank, four released, of 1 to 3 microbatches each.
template <class Placed>
std::vector<record> train(int ranks) {
  std::vector<record> out(static_cast<std::size_t>(ranks));
  rethrow_first(run_ranks(ranks, [&](threads comm) {
    const int rank = comm.rank();
    toy_model<double> model(toy_sizes());
    const recording_noise noise{{.noise_multiplier = 0.8, .seed = 11}};
    dp_optimizer opt(model.views(), dp_options{.bucket_elements = 16},
                     adaptive{per_layer{0.6}, {.count_noise_std = 4, .expected_batch_size = across_ranks{23}}},
                     std::move(comm), noise, Placed{}, expected_batch{across_ranks{23}}, no_accountant{});
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

bool distinct(const std::multiset<place>& used) {
  return std::set<place>(used.begin(), used.end()).size() == used.size();
}

std::set<std::uint64_t> steps_of(const record& r) {
  std::set<std::uint64_t> out;
  for (const place& p : r.used) out.insert(std::get<2>(p));
  return out;
}

/// The gradients' numbers, or those of the counts.
std::size_t count_of(const record& r, purpose what) {
  return static_cast<std::size_t>(
      std::count_if(r.used.begin(), r.used.end(), [&](const place& p) { return std::get<0>(p) == what; }));
}

} // namespace

TEST_CASE("replicated: every rank uses the same numbers, each once, and none of a failed or virtual step") {
  for (const int ranks : {1, 3}) {
    const auto by_rank = train<replicated>(ranks);
    for (const record& r : by_rank) {
      CHECK(distinct(r.used));
      CHECK(r.used == by_rank[0].used);
      CHECK(count_of(r, purpose::gradient) == releases * numbers);
      CHECK(count_of(r, purpose::side_scalars) == releases * layers);
      CHECK(steps_of(r) == std::set<std::uint64_t>{0, 2, 3, 4}); // 1 was given to the failed step and to no other
    }
  }
}

TEST_CASE("independent_shares: no number twice on any rank or on two, also when a step fails after noise was sent") {
  const auto by_rank = train<independent_shares>(3);
  std::multiset<place> all;
  for (const record& r : by_rank) {
    all.insert(r.used.begin(), r.used.end());
    CHECK(count_of(r, purpose::gradient) >= releases * numbers);
    CHECK(count_of(r, purpose::side_scalars) >= releases * layers);
  }
  CHECK(distinct(all));
  CHECK(steps_of(by_rank[0]) == std::set<std::uint64_t>{0, 1, 2, 3, 4}); // the failed step's shares are spent
}

TEST_CASE("sharded: each number of a gradient is used on one rank, once; the counts' on all") {
  const auto by_rank = train<sharded>(3);
  std::multiset<place> all;
  for (const record& r : by_rank) {
    CHECK(distinct(r.used));
    CHECK(count_of(r, purpose::side_scalars) == releases * layers);
    for (const place& p : r.used)
      if (std::get<0>(p) == purpose::gradient) all.insert(p);
  }
  CHECK(distinct(all));
  CHECK(all.size() == releases * numbers);
}

TEST_CASE("root_before_reduction: the root alone draws, no number twice") {
  const auto by_rank = train<root_before_reduction>(3);
  CHECK(distinct(by_rank[0].used));
  CHECK(count_of(by_rank[0], purpose::gradient) >= releases * numbers);
  CHECK(by_rank[1].used.empty());
  CHECK(by_rank[2].used.empty());
}
