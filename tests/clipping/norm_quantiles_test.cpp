// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// The histogram by itself; what it makes of a whole step is in tests/dp_optimizer/norm_quantiles_test.cpp.
#include "dpopt/clipping/norm_quantiles.hpp"

#include "dpopt/clipping/adaptive.hpp"
#include "dpopt/clipping/per_layer.hpp"
#include "support/bound_clipper.hpp"
#include "support/catch.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <string>
#include <vector>

using namespace dpopt;
using dpopt::test::bound;

namespace {

constexpr double infinite = std::numeric_limits<double>::infinity();

norm_quantiles_options usual() { return {.edges = {1, 2, 4}, .count_noise_std = 4}; }

std::vector<double> all_counts(const auto& clipper, isize g = 0) {
  return {clipper.counts(g).begin(), clipper.counts(g).end()};
}

} // namespace

TEST_CASE("each unit adds one to one cell of its group, whose upper edge belongs to it") {
  const auto clipper = bound(norm_quantiles{per_layer{1.0}, usual()});
  REQUIRE(clipper.side_scalars() == 8);
  for (const double norm : {0.0, 1e-300, 1.0, std::nextafter(1.0, 2.0), 2.0, 3.0, 4.0, 4.0001, 1e300}) {
    INFO(norm);
    std::vector<double> side(8, 0.0);
    clipper.observe(1, norm, side);
    std::vector<double> expected(8, 0.0);
    expected[4 + (norm <= 1 ? 0U : norm <= 2 ? 1U : norm <= 4 ? 2U : 3U)] = 1;
    CHECK(side == expected);
  }
}

TEST_CASE("counts and gradients together cost one Gaussian mechanism of the multiplier that the accountant is told") {
  for (const double z : {0.3, 1.0, 2.5}) {
    const auto one = bound(norm_quantiles{flat{1}, usual()});
    const auto two = bound(norm_quantiles{per_layer{1.0}, usual()});
    // By definition: a unit moves gradients by C = 1 and each group's histogram by 1.
    CHECK(1 / std::pow(one.gradient_multiplier(z), 2) + 1 / 16.0 == Approx(1 / (z * z)).epsilon(1e-13));
    CHECK(1 / std::pow(two.gradient_multiplier(z), 2) + 2 / 16.0 == Approx(1 / (z * z)).epsilon(1e-13));
    const auto both =
        bound(norm_quantiles{adaptive{per_layer{1.0}, {.count_noise_std = 6, .expected_batch_size = 10}}, usual()});
    CHECK(1 / std::pow(both.gradient_multiplier(z), 2) + 2 / 16.0 + 2 / 144.0 == Approx(1 / (z * z)).epsilon(1e-13));
    CHECK(both.gradient_multiplier(0) == 0);
  }
}

TEST_CASE("replacing a unit moves two cells, for which the counts' noise grows") {
  const auto clipper = bound(norm_quantiles{flat{1}, usual()});
  CHECK(clipper.side_std(neighbouring::add_remove) == 4);
  CHECK(clipper.side_std(neighbouring::zero_out) == 4);
  CHECK(std::pow(clipper.side_std(neighbouring::replace_one), 2) >= 2 * 16);
  CHECK(clipper.side_std(neighbouring::replace_one) == Approx(4 * std::sqrt(2.0)));
}

TEST_CASE("around a clipper that learns, both keep their own std under the one that they share") {
  auto clipper = bound(norm_quantiles{adaptive{flat{1}, {.count_noise_std = 12, .expected_batch_size = 10}}, usual()});
  for (const auto relation : {neighbouring::add_remove, neighbouring::zero_out, neighbouring::replace_one})
    CHECK(clipper.side_std(relation) == clipper.inner.side_std(relation));
  std::vector<double> side(5, 0.0);
  clipper.observe(0, 1.5, side);
  CHECK(side == std::vector<double>{-0.5, 0, 3, 0, 0}); // 3 / 12 is 1 / 4
  clipper.learn(side, 1, 1);
  CHECK(all_counts(clipper) == std::vector<double>{0, 1, 0, 0});
  CHECK(clipper.inner.bounds()[0] == Approx(std::exp(0.2 * 0.05))); // as without the histogram
}

TEST_CASE("a multiplier that the histogram alone uses up is refused with the numbers") {
  const auto layers = bound(norm_quantiles{per_layer{1.0}, usual()});
  CHECK_NOTHROW(layers.gradient_multiplier(2.82));
  CHECK_THROWS_AS(layers.gradient_multiplier(2.83), invalid_argument); // 4 / sqrt(2) = 2.828
  CHECK_THROWS_WITH(
      bound(norm_quantiles{flat{1}, usual()}).gradient_multiplier(4),
      "norm_quantiles: noise_multiplier is 4, but histograms of 1 groups with count_noise_std 4 alone cost as much as "
      "4 = count_noise_std / sqrt(groups), which leaves nothing for the gradients; raise count_noise_std above 4");
  auto options = usual();
  options.count_noise_std = 0;
  const auto exact = bound(norm_quantiles{flat{1}, options});
  CHECK_THROWS_AS(exact.gradient_multiplier(1e-9), invalid_argument); // exact counts are no private release
  CHECK(exact.gradient_multiplier(0) == 0);                           // unless nobody claims one
}

TEST_CASE("steps add up with the memory that was asked for, and so does the noise's variance") {
  for (const double memory : {0.0, 0.5, 1.0}) {
    INFO(memory);
    auto options = usual();
    options.memory = memory;
    auto clipper = bound(norm_quantiles{flat{1}, options});
    CHECK(clipper.counts_std(neighbouring::add_remove) == 0);
    clipper.learn(std::vector<double>{8, 4, 0, 2}, 1, 1);
    clipper.learn(std::vector<double>{1, 1, -1, 0}, 1, 1);
    CHECK(all_counts(clipper) == std::vector<double>{8 * memory + 1, 4 * memory + 1, -1, 2 * memory});
    CHECK(clipper.counts_std(neighbouring::add_remove) == Approx(4 * std::sqrt(1 + memory * memory)));
  }
}

TEST_CASE("quantiles of exact counts are those of the histogram, linear within a cell") {
  auto clipper = bound(norm_quantiles{flat{1}, usual()});
  CHECK(std::isnan(clipper.quantile(0.5))); // nothing was seen
  clipper.learn(std::vector<double>{2, 2, 4, 2}, 1, 1);
  CHECK(clipper.quantile(0) == 0);
  CHECK(clipper.quantile(0.1) == Approx(0.5));
  CHECK(clipper.quantile(0.2) == Approx(1));
  CHECK(clipper.quantile(0.3) == Approx(1.5));
  CHECK(clipper.quantile(0.6) == Approx(3));
  CHECK(clipper.quantile(0.8) == Approx(4));
  CHECK(clipper.quantile(0.81) == infinite);
  CHECK_THROWS_WITH(clipper.quantile(0.5, 1), "norm_quantiles: group 1 does not exist; there are 1");
  CHECK_THROWS_AS(clipper.counts(-1), invalid_argument);
  clipper.learn(std::vector<double>{-2, -2, -4, -3}, 1, 1);
  CHECK(std::isnan(clipper.quantile(0.5))); // noise outweighs what was seen
}

TEST_CASE("with noise, quantiles still rise with q, stay on the edges' scale, and come near the true ones") {
  // Norms uniform in (0, 10), 2000 a step, 30 steps, noise of std 20 a count: the noise on a cumulative count of 60000
  // is at most 20 sqrt(30 * 20) = 490, or 0.8 % of it: 0.1 is above ten of its standard deviations. Fixed seed.
  std::mt19937_64 random(7);
  norm_quantiles_options options{.count_noise_std = 20};
  for (int j = 1; j <= 20; ++j) options.edges.push_back(0.5 * j);
  auto clipper = bound(norm_quantiles{flat{1}, options});
  std::normal_distribution<double> noise(0, 20);
  for (int t = 0; t < 30; ++t) {
    std::vector<double> side(21, 0.0);
    for (int i = 0; i < 2000; ++i) clipper.observe(0, 10 * static_cast<double>(random() >> 11) * 0x1p-53, side);
    for (double& x : side) x += noise(random);
    clipper.learn(side, 1, 1);
  }
  double before = 0;
  for (int k = 0; k <= 18; ++k) {
    const double q = 0.05 * k;
    const double at = clipper.quantile(q);
    CHECK(at >= before);
    CHECK(std::abs(at - 10 * q) < 1);
    before = at;
  }
}

TEST_CASE("what was counted can be read, and goes on in another run") {
  auto first = bound(norm_quantiles{per_layer{1.0}, usual()});
  first.learn(std::vector<double>{1, 2, 3, 4, 5, 6, 7, 8}, 1, 1);
  norm_quantiles early{per_layer{1.0}, usual()};
  early.restore(first.state()); // before bind()
  early = bound(early);
  auto late = bound(norm_quantiles{per_layer{1.0}, usual()});
  late.restore(first.state()); // or after
  for (auto* c : {&early, &late}) {
    CHECK(all_counts(*c, 1) == all_counts(first, 1));
    CHECK(c->counts_std(neighbouring::add_remove) == 4);
  }
  CHECK_THROWS_WITH(late.restore({2, 1, 2, 3}),
                    "norm_quantiles: 2 counts to go on from for 8 cells of all groups; give "
                    "one each, from a state() of the same edges");
  for (const std::vector<double>& none : {std::vector<double>{}, {-1, 0}, {1}, {9, 0, 1}, {std::nan(""), 1, 2}})
    CHECK_THROWS_AS(late.restore(none), invalid_argument);
  CHECK(late.state() == first.state());
  norm_quantiles wrong{flat{1}, usual()};
  wrong.restore(first.state());
  CHECK_THROWS_AS(bound(wrong), invalid_argument);
}

TEST_CASE("the state holds that of an inner clipper which learns") {
  const norm_quantiles given{adaptive{flat{1}, {.count_noise_std = 12, .expected_batch_size = 10}}, usual()};
  auto first = bound(given);
  first.learn(std::vector<double>{4, 1, 2, 3, 4}, 1, 1);
  for (const bool early : {true, false}) {
    auto again = given;
    if (!early) again = bound(again);
    again.restore(first.state());
    if (early) again = bound(again);
    CHECK(again.inner.bounds() == first.inner.bounds());
    CHECK(again.state() == first.state());
  }
}

namespace {

/// By brute force over the norms that a unit may have in the two groups of per_layer: how far one that comes, goes or
/// is exchanged moves gradients and side scalars together, each over its std, times z. Above 1 the accountant is told
/// too little; much below, gradients get more noise than they must.
template <class C>
double cost_of_a_unit(C clipper, neighbouring relation, double z) {
  clipper = bound(clipper);
  std::vector<std::vector<double>> units;
  for (const double a : {0.0, 0.5, 1.0, 1.5, 3.0, 100.0})
    for (const double b : {0.0, 1.0, 3.0, 100.0}) {
      auto& side = units.emplace_back(static_cast<std::size_t>(clipper.side_scalars()), 0.0);
      clipper.observe(0, a, side);
      clipper.observe(1, b, side);
    }
  const bool exchanged = relation == neighbouring::replace_one;
  const std::vector<std::vector<double>> others = exchanged ? units : std::vector(1, std::vector(units[0].size(), 0.0));
  double most = 0;
  for (const auto& u : units)
    for (const auto& other : others) {
      double squares = 0;
      for (std::size_t j = 0; j < u.size(); ++j) squares += std::pow(u[j] - other[j], 2);
      most = std::max(most, squares);
    }
  // Gradients move by sensitivity(relation), under noise of gradient_multiplier(z) times that.
  return z * std::sqrt(std::pow(clipper.gradient_multiplier(z), -2) + most / std::pow(clipper.side_std(relation), 2));
}

} // namespace

TEST_CASE("no unit moves gradients and what is counted, together, by more than the accountant is told") {
  const adaptive learning{per_layer{1.0}, {.count_noise_std = 5, .expected_batch_size = 10}};
  for (const double z : {0.3, 1.0, 2.2})
    for (const auto relation : {neighbouring::add_remove, neighbouring::zero_out, neighbouring::replace_one}) {
      CHECK(cost_of_a_unit(learning, relation, z) == Approx(1).epsilon(1e-14));
      CHECK(cost_of_a_unit(norm_quantiles{per_layer{1.0}, usual()}, relation, z) == Approx(1).epsilon(1e-14));
      const double both = cost_of_a_unit(norm_quantiles{learning, usual()}, relation, z);
      CHECK(both <= 1 + 1e-14); // replaced units: the histogram then has more noise than it needs
      if (relation != neighbouring::replace_one) CHECK(both == Approx(1).epsilon(1e-14));
    }
}

TEST_CASE("the noise in the counts is told also around a clipper that learns") {
  const adaptive learning{flat{1.0}, {.count_noise_std = 5, .expected_batch_size = 10}};
  auto clipper = bound(norm_quantiles{learning, usual()});
  clipper.learn(std::vector<double>(static_cast<std::size_t>(clipper.side_scalars()), 0.0), 1, 1);
  const double s = clipper.options.count_noise_std;
  CHECK(clipper.counts_std(neighbouring::add_remove) == Approx(s));
  CHECK(clipper.counts_std(neighbouring::replace_one) == Approx(2 * s)); // as the bits need
  auto plain = bound(norm_quantiles{flat{1.0}, usual()});
  plain.learn(std::vector<double>(static_cast<std::size_t>(plain.side_scalars()), 0.0), 1, 1);
  CHECK(plain.counts_std(neighbouring::replace_one) == Approx(std::sqrt(2.0) * s));
}

TEST_CASE("every option of the histogram is checked, and named when it is wrong") {
  const auto says = [](auto change) {
    norm_quantiles_options options = usual();
    change(options);
    try {
      bound(norm_quantiles{flat{1}, options});
    } catch (const invalid_argument& e) {
      return std::string(e.what());
    }
    return std::string();
  };
  CHECK(says([](auto&) {}) == "");
  CHECK(says([](auto& o) { o.edges = {}; }) ==
        "norm_quantiles: edges: not given; give rising norms, such as geometric_edges(0.01, 100, 17)");
  CHECK(says([](auto& o) {
          o.edges = {1, 1};
        }) == "norm_quantiles: edges[1] is 1; give finite numbers above 0, each above the one before");
  CHECK(says([](auto& o) { o.edges = {0}; }) != "");
  CHECK(says([](auto& o) { o.edges = {infinite}; }) != "");
  CHECK(says([](auto& o) { o.edges = geometric_edges(-1, 2, 4); }) != "");
  CHECK(
      says([](auto& o) { o.count_noise_std = norm_quantiles_options{}.count_noise_std; }) ==
      "norm_quantiles: count_noise_std is nan; give the std of the noise on each count, a finite number of at least 0");
  CHECK(says([](auto& o) { o.count_noise_std = -1; }) != "");
  CHECK(says([](auto& o) { o.memory = 1.5; }) ==
        "norm_quantiles: memory is 1.5; give the weight of older counts, in [0, 1]");
}

TEST_CASE("clipping is the inner clipper's, and the description holds every option") {
  const auto clipper = bound(norm_quantiles{per_layer{{1, 2}}, usual()});
  const auto plain = bound(per_layer{{1, 2}});
  CHECK(clipper.rule(1)(7) == plain.rule(1)(7));
  CHECK(clipper.sensitivity(neighbouring::replace_one) == plain.sensitivity(neighbouring::replace_one));
  CHECK(clipper.greatest_sensitivity() == plain.sensitivity(neighbouring::add_remove));
  CHECK(clipper.describe() == "norm_quantiles(" + plain.describe() + ", edges={1, 2, 4}, count_noise_std=4, memory=1)");
  const auto edges = geometric_edges(0.01, 100, 5);
  REQUIRE(edges.size() == 5);
  CHECK(edges[1] == Approx(0.1));
  CHECK(edges[4] == Approx(100));
}
