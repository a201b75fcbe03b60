// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// Histograms of norms through whole steps: what is counted, which noise is added, what is charged, on one rank and
// more.
#include "support/catch.hpp"

#include "dpopt/accounting/no_accountant.hpp"
#include "dpopt/accumulation/integer_grid.hpp"
#include "dpopt/clipping/adaptive.hpp"
#include "dpopt/clipping/norm_quantiles.hpp"
#include "dpopt/clipping/per_layer.hpp"
#include "dpopt/clipping/scheduled.hpp"
#include "dpopt/dp_optimizer/dp_optimizer.hpp"
#include "support/probes.hpp"
#include "support/ranks.hpp"
#include "support/statistics.hpp"
#include "support/toy_training.hpp"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

using namespace dpopt;
using namespace dpopt::test;

namespace {

norm_quantiles_options cells(double std) { return {.edges = {1, 2}, .count_noise_std = std, .memory = 0}; }

std::vector<double> counts(const auto& opt, isize g) {
  const auto c = opt.clipper().counts(g);
  return {c.begin(), c.end()};
}

void feed(auto& opt, const small_batch& batch, microbatch m = {}) {
  m.samples = batch.samples;
  opt.begin(m);
  batch.hand_over(opt);
}

using layers = norm_quantiles<per_layer>;

struct trained {
  small_model model;
  journal log;
  dp_optimizer<double, layers, probe_noise, probe_accountant, unscaled> opt;
  explicit trained(double std, double multiplier = 0, neighbouring relation = neighbouring::add_remove)
      : opt(model.views(), dp_options{.relation = relation}, layers{per_layer{{1, 2, 3}}, cells(std)},
            probe_noise{multiplier, &log}, probe_accountant{&log}, unscaled{}) {}
};

} // namespace

TEST_CASE("every unit with a finite norm and a weight is in one cell of every group; microbatches add up") {
  trained t(0);
  small_batch batch = units_with_norms({0.5, 0.5, 3, 50});
  batch.rows[1][1] = std::numeric_limits<double>::quiet_NaN(); // unit 0 in layer 1
  const std::vector<double> weights{1, 3, 0.5, 0};
  feed(t.opt, batch, {.last = false, .weights = weights.data()}); // norms 0.5, 1.5, 1.5 and one that is masked
  feed(t.opt, units_with_norms({}), {.last = false});
  feed(t.opt, units_with_norms({9}));
  t.opt.step();
  CHECK(counts(t.opt, 0) == std::vector<double>{1, 2, 1});
  CHECK(counts(t.opt, 1) == std::vector<double>{0, 2, 1});
  CHECK(t.opt.clipper().quantile(0.5, 0) == Approx(1.5));
  feed(t.opt, units_with_norms({5}), {.last = false});
  t.opt.discard();
  t.opt.begin({.samples = 0});
  t.opt.step();
  CHECK(counts(t.opt, 0) == std::vector<double>{0, 0, 0});
}

TEST_CASE("counts and gradients get their noise once, and the accountant is told what both cost") {
  for (const auto relation : {neighbouring::add_remove, neighbouring::zero_out, neighbouring::replace_one}) {
    const bool replaced = relation == neighbouring::replace_one;
    const double z = 1.5;
    trained t(3, z, relation);
    feed(t.opt, units_with_norms({0.5, 0.5}));
    t.opt.pre_step();
    const double left = 1 / std::sqrt(1 / (z * z) - 3 / 9.0); // three groups, each moved by 1 under noise of std 3
    REQUIRE(t.log.noise.size() == 4);
    CHECK(t.log.noise[0].where.what == purpose::side_scalars);
    CHECK(t.log.noise[0].std == Approx(3 * (replaced ? std::sqrt(2.0) : 1)));
    CHECK(t.log.noise[0].count == 9);
    CHECK(t.opt.noise_std() == Approx(left * (replaced ? 2 : 1) * std::sqrt(1.0 + 4 + 9)));
    CHECK(counts(t.opt, 1) == std::vector<double>{2 + t.log.noise[0].std, t.log.noise[0].std, t.log.noise[0].std});
    REQUIRE(t.log.charged.size() == 1);
    CHECK(t.log.charged[0].noise_multiplier == z);
  }
}

TEST_CASE("a multiplier that leaves the gradients nothing is refused at construction") {
  CHECK_THROWS_WITH(trained(3, 1.74), contains_text("norm_quantiles: noise_multiplier is 1.74, but histograms of 3"));
  CHECK_NOTHROW(trained(3, 1.73));
  CHECK_THROWS_AS(trained(0, 1), invalid_argument);
}

TEST_CASE("around a schedule the bounds follow it") {
  small_model model;
  dp_optimizer opt(model.views(), dp_options{}, norm_quantiles{scheduled{flat{1}, step_decay{1, 0.5}}, cells(0)},
                   probe_noise{0}, no_accountant{}, unscaled{});
  for (const double bound : {1.0, 0.5, 0.25}) {
    CHECK(opt.sensitivity() == bound);
    feed(opt, units_with_norms({100}));
    opt.step();
  }
  CHECK(counts(opt, 0) == std::vector<double>{0, 0, 1});
}

TEST_CASE("any number of ranks counts what one rank counts, and learns the same bounds beside it") {
  const auto run = [](auto comm) {
    const int rank = comm.rank();
    const int ranks = comm.size();
    toy_model<double> model(toy_sizes());
    dp_optimizer opt(
        model.views(), dp_options{},
        norm_quantiles{adaptive{per_layer{0.6},
                                {.count_noise_std = 4, .expected_batch_size = across_ranks{23}, .greatest_bound = 64}},
                       {.edges = geometric_edges(0.125, 4, 6), .count_noise_std = 4}},
        integer_grid{}, std::move(comm), counter_gaussian{.noise_multiplier = 0.8, .seed = 20240229},
        expected_batch{across_ranks{23}}, no_accountant{});
    toy_feeder<double> feeder;
    for (isize s = 0; s < 3; ++s) {
      feeder.feed(opt, s, uneven_share(23, s, rank, ranks), static_cast<std::uint64_t>(10 * s + rank + 1));
      opt.step();
    }
    return std::pair(opt.clipper().state(), opt.clipper().inner.bounds());
  };
  const auto one = run(serial{});
  double seen = 0; // 69 units in each of 5 groups, under noise of std 4 sqrt(3 x 35) = 41: four of it
  for (std::size_t j = 1; j < one.first.size(); ++j) seen += one.first[j];
  CHECK(std::abs(seen - 5 * 69) < 4 * 41);
  for (const int w : {1, 2, 5}) {
    std::vector<std::pair<std::vector<double>, std::vector<double>>> results(static_cast<std::size_t>(w));
    const auto errors = run_ranks(w, [&](threads comm) {
      const auto rank = static_cast<std::size_t>(comm.rank());
      results[rank] = run(std::move(comm));
    });
    REQUIRE(error_texts(errors) == "");
    for (const auto& r : results) CHECK(r == one);
  }
}

// Empty steps show the noise of each count by itself: 9 counts in 150 steps. Each score stays below `unlikely` with
// probability 1 - 5.7e-7 (statistics.hpp). The seed is fixed.
TEST_CASE("counts have their noise once, at the std that was asked for, from one rank or three") {
  for (const int ranks : {1, 3}) {
    std::vector<std::vector<double>> by_rank(static_cast<std::size_t>(ranks));
    const auto errors = run_ranks(ranks, [&](threads comm) {
      const auto rank = static_cast<std::size_t>(comm.rank());
      small_model model;
      dp_optimizer opt(model.views(), dp_options{}, layers{per_layer{1.0}, cells(3)}, std::move(comm),
                       counter_gaussian{.noise_multiplier = 0.5, .seed = 11}, independent_shares{}, no_accountant{},
                       unscaled{});
      for (int s = 0; s < 150; ++s) {
        opt.begin({.samples = 0});
        opt.step();
        for (isize g = 0; g < 3; ++g)
          for (const double c : opt.clipper().counts(g)) by_rank[rank].push_back(c / 3);
      }
    });
    REQUIRE(error_texts(errors) == "");
    CHECK(by_rank.front() == by_rank.back());
    CHECK(std::abs(moment_score(by_rank[0], 1)) < unlikely);
    CHECK(std::abs(moment_score(by_rank[0], 2)) < unlikely);
  }
}
