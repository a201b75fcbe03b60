// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// The clipper by itself; what it makes of a whole step is in tests/dp_optimizer/adaptive_test.cpp.
#include "dpopt/clipping/adaptive.hpp"

#include "dpopt/clipping/automatic.hpp"
#include "dpopt/clipping/drop_above.hpp"
#include "dpopt/clipping/per_group.hpp"
#include "dpopt/clipping/per_layer.hpp"
#include "dpopt/clipping/psac.hpp"
#include "dpopt/clipping/unit_norm.hpp"
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
using dpopt::test::parameters;

namespace {

constexpr double nan_value = std::numeric_limits<double>::quiet_NaN();
constexpr double infinite = std::numeric_limits<double>::infinity();

adaptive_options usual() { return {.count_noise_std = 4, .expected_batch_size = across_ranks{10}}; }

template <class Change>
adaptive<flat> with(Change change, double start = 1) {
  adaptive_options options = usual();
  change(options);
  return {flat{start}, options};
}

/// One step without noise: every unit shows its norm in each group.
template <class C>
void show(C& clipper, const std::vector<double>& norms) {
  std::vector<double> side(static_cast<std::size_t>(clipper.side_scalars()), 0.0);
  for (const double norm : norms)
    for (isize g = 0; g < clipper.groups(); ++g) clipper.observe(g, norm, side);
  clipper.learn(side, 1, 1);
}

} // namespace

TEST_CASE("each unit adds one half to its group's count when it stays unclipped, else takes one half") {
  const auto clipper = bound(adaptive{per_layer{{1, 2}}, usual()});
  CHECK(clipper.side_scalars() == 2);
  std::vector<double> side(2, 0.0);
  clipper.observe(0, 0.5, side);
  CHECK(side == std::vector<double>{0.5, 0});
  clipper.observe(0, 1.5, side);
  clipper.observe(0, 1e30, side);
  clipper.observe(1, 2, side); // exactly C is unclipped
  clipper.observe(1, 0, side);
  CHECK(side == std::vector<double>{-0.5, 1});
}

TEST_CASE("bounds move geometrically, against the distance from the target") {
  auto clipper = bound(adaptive{per_layer{{1, 2}}, usual()});
  clipper.learn(std::vector<double>{3, -2}, 1, 1); // fractions 0.8 and 0.3
  CHECK(clipper.bounds()[0] == Approx(std::exp(-0.2 * 0.3)).epsilon(1e-14));
  CHECK(clipper.bounds()[1] == Approx(2 * std::exp(0.2 * 0.2)).epsilon(1e-14));
  CHECK(clipper.bound(0) == clipper.bounds()[0]); // the next step is clipped with them
  CHECK(clipper.rule(1).bound == clipper.bounds()[1]);
  CHECK(clipper.sensitivity(neighbouring::add_remove) == Approx(std::hypot(clipper.bounds()[0], clipper.bounds()[1])));
}

TEST_CASE("the fraction is of the expected number of units, over all ranks and logical batches") {
  const auto moved_by = [](batch_size expected, isize iterations, int ranks) {
    auto clipper = bound(with([&](auto& o) { o.expected_batch_size = expected; }));
    clipper.learn(std::vector<double>{6}, iterations, ranks);
    return -std::log(clipper.bounds()[0]) / 0.2; // fraction - target
  };
  CHECK(moved_by(across_ranks{24}, 1, 3) == Approx(6.0 / 24));
  CHECK(moved_by(per_rank{24}, 1, 3) == Approx(6.0 / 72));
  CHECK(moved_by(across_ranks{24}, 2, 3) == Approx(6.0 / 48));
}

TEST_CASE("a batch without units counts as a fraction of one half") {
  auto clipper = bound(with([](auto& o) { o.target_quantile = 0.25; }));
  clipper.learn(std::vector<double>{0}, 1, 1);
  CHECK(clipper.bounds()[0] == Approx(std::exp(-0.2 * 0.25)).epsilon(1e-14));
}

TEST_CASE("bounds stay within their limits, whatever the noise") {
  auto clipper = bound(with([](auto& o) {
    o.least_bound = 0.5;
    o.greatest_bound = 3;
  }));
  for (int t = 0; t < 3; ++t) clipper.learn(std::vector<double>{1e9}, 1, 1);
  CHECK(clipper.bounds()[0] == 0.5);
  clipper.learn(std::vector<double>{-1e9}, 1, 1);
  CHECK(clipper.bounds()[0] == 3);
}

TEST_CASE("without noise the bound goes to the target quantile of a known distribution") {
  // Norms uniform in (0, 10): quantile q is at 10 q. 1000 fixed norms place it within 1/1000 of their empirical one.
  std::mt19937_64 random(5);
  std::vector<double> norms;
  for (int i = 0; i < 1000; ++i) norms.push_back(10 * static_cast<double>(random() >> 11) * 0x1p-53);
  std::vector<double> sorted = norms;
  std::sort(sorted.begin(), sorted.end());
  for (const double q : {0.1, 0.5, 0.9})
    for (const double start : {0.01, 1000.0}) {
      INFO("quantile " << q << " from " << start);
      auto clipper = bound(with(
          [&](auto& o) {
            o.target_quantile = q;
            o.expected_batch_size = across_ranks{1000};
          },
          start));
      for (int t = 0; t < 800; ++t) show(clipper, norms);
      const auto rank = static_cast<std::size_t>(1000 * q);
      CHECK(clipper.bounds()[0] >= sorted[rank - 2]);
      CHECK(clipper.bounds()[0] <= sorted[rank + 2]);
    }
}

TEST_CASE("both noises together cost one Gaussian mechanism of the multiplier that the accountant is told") {
  for (const double z : {0.3, 1.0, 4.0}) {
    const auto flat_clipper = bound(with([](auto&) {}));
    const auto layers = bound(adaptive{per_layer{1.0}, usual()});
    const double z1 = flat_clipper.gradient_multiplier(z);
    const double z2 = layers.gradient_multiplier(z);
    CHECK(1 / (z1 * z1) + 1 / 64.0 == Approx(1 / (z * z)).epsilon(1e-13)); // theorem 1, with 2 count_noise_std = 8
    CHECK(1 / (z2 * z2) + 2 / 64.0 == Approx(1 / (z * z)).epsilon(1e-13)); // two counts
    CHECK(z < z1);
    CHECK(z1 < z2);
  }
}

TEST_CASE("a multiplier that the counts alone use up is refused with the numbers") {
  const auto layers = bound(adaptive{per_layer{1.0}, usual()});
  CHECK_NOTHROW(layers.gradient_multiplier(5.65));
  CHECK_THROWS_AS(layers.gradient_multiplier(5.66), invalid_argument); // 8 / sqrt(2) = 5.657
  CHECK_THROWS_WITH(
      bound(with([](auto&) {})).gradient_multiplier(8),
      "adaptive: noise_multiplier is 8, but 1 counts with count_noise_std 4 alone cost as much as 8 = 2 "
      "count_noise_std / sqrt(groups), which leaves nothing for the gradients; raise count_noise_std above 4");
  const auto without = bound(with([](auto& o) { o.count_noise_std = 0; }));
  CHECK_THROWS_AS(without.gradient_multiplier(1e-9), invalid_argument); // exact counts are no private release
  CHECK(without.gradient_multiplier(0) == 0);                           // unless nobody claims one
  CHECK(layers.gradient_multiplier(0) == 0);
}

TEST_CASE("replacing a unit moves counts and gradients twice as far, so both noises double") {
  const auto clipper = bound(with([](auto&) {}));
  CHECK(clipper.side_std(neighbouring::add_remove) == 4);
  CHECK(clipper.side_std(neighbouring::zero_out) == 4);
  CHECK(clipper.side_std(neighbouring::replace_one) == 8);
  CHECK(clipper.sensitivity(neighbouring::replace_one) == 2 * clipper.sensitivity(neighbouring::add_remove));
}

TEST_CASE("the greatest sensitivity is that of the greatest bounds") {
  CHECK(bound(with([](auto& o) { o.greatest_bound = 7; })).greatest_sensitivity() == 7);
  auto options = usual();
  options.greatest_bound = 5;
  CHECK(bound(adaptive{per_layer{1.0}, options}).greatest_sensitivity() == Approx(5 * std::sqrt(2.0)));
  CHECK(bound(adaptive{unit_norm{per_layer{1.0}}, options}).greatest_sensitivity() == 1);
}

TEST_CASE("with a rule inside, the bound is still the quantile of the norms") {
  const auto check = [](auto clipper) {
    clipper.bind(parameters);
    std::vector<double> side(static_cast<std::size_t>(clipper.side_scalars()), 0.0);
    clipper.observe(0, 1.9, side);
    CHECK(side[0] == 0.5);
    clipper.observe(0, 2.1, side);
    CHECK(side[0] == 0);
    side[0] = -5; // fraction 0
    clipper.learn(side, 1, 1);
    CHECK(clipper.bounds()[0] == Approx(2 * std::exp(0.1)));
    return clipper;
  };
  CHECK(check(adaptive{automatic{flat{2}, 0.5}, usual()}).rule(0)(0.5) == Approx(2 * std::exp(0.1)));
  CHECK(check(adaptive{psac{flat{2}, 0.5}, usual()}).rule(0)(0) == Approx(2 * std::exp(0.1)));
  CHECK(check(adaptive{drop_above{flat{2}, 2}, usual()}).rule(0)(4.2) == 0.5);
  CHECK(check(adaptive{unit_norm{flat{2}}, usual()}).rule(0)(1) == Approx(0.5 * std::exp(-0.1)));
  check(adaptive{per_group{{"all", {"*"}, 2}}, usual()});
}

TEST_CASE("what was learned can be read, and goes on in another run") {
  auto first = bound(adaptive{per_layer{{1, 2}}, usual()});
  first.learn(std::vector<double>{3, -2}, 1, 1);
  adaptive again{per_layer{{1, 2}}, usual()};
  again.restore(first.bounds());
  CHECK(bound(again).bounds() == first.bounds()); // before bind()
  CHECK(bound(again).rule(0).bound == first.bounds()[0]);
  auto later = bound(adaptive{per_layer{{1, 2}}, usual()});
  later.restore(first.bounds()); // or after
  CHECK(later.rule(1).bound == first.bounds()[1]);
  first.learn(std::vector<double>{1, 1}, 1, 1);
  later.learn(std::vector<double>{1, 1}, 1, 1);
  CHECK(later.bounds() == first.bounds());
  CHECK(later.describe() == first.describe());    // the configuration, not the state
  CHECK(bound(later).bounds() == first.bounds()); // a bind() loses nothing
}

TEST_CASE("bounds that cannot be gone on from are refused") {
  auto clipper = bound(adaptive{per_layer{{1, 2}}, usual()});
  CHECK_THROWS_WITH(clipper.restore({1}), "adaptive: 1 bounds to go on from for 2 groups; give one each");
  CHECK_THROWS_AS(clipper.restore({1, nan_value}), invalid_argument);
  CHECK_THROWS_AS(clipper.restore({1, 1e7}), invalid_argument);
  CHECK(clipper.bounds() == std::vector<double>{1, 2});
  adaptive early{per_layer{{1, 2}}, usual()};
  early.restore({1, 2, 3});
  CHECK_THROWS_AS(bound(early), invalid_argument);
}

TEST_CASE("every option is checked, and named when it is wrong") {
  const auto says = [](auto change) {
    try {
      bound(with(change));
    } catch (const invalid_argument& e) {
      return std::string(e.what());
    }
    return std::string();
  };
  CHECK(says([](auto&) {}) == "");
  CHECK(says([](auto& o) { o.target_quantile = 1.5; }) == "adaptive: target_quantile is 1.5; give a share in [0, 1]");
  CHECK(says([](auto& o) { o.target_quantile = nan_value; }) ==
        "adaptive: target_quantile is nan; give a share in [0, 1]");
  CHECK(says([](auto& o) { o.learning_rate = 0; }) == "adaptive: learning_rate is 0; give a finite number above 0");
  CHECK(says([](auto& o) { o.count_noise_std = nan_value; }) ==
        "adaptive: count_noise_std is nan; give the std of the noise on each count, a finite number of at least 0");
  CHECK(says([](auto& o) { o.count_noise_std = infinite; }) != "");
  CHECK(says([](auto& o) { o.count_noise_std = -1; }) != "");
  CHECK(says([](auto& o) { o.expected_batch_size = {}; }) ==
        "adaptive: expected_batch_size: not given; give per_rank(units) or across_ranks(units)");
  CHECK(says([](auto& o) { o.expected_batch_size = 0; }) ==
        "adaptive: expected_batch_size is 0; give a finite number above 0");
  CHECK(says([](auto& o) { o.least_bound = 0; }) == "adaptive: least_bound is 0; give a finite number above 0");
  CHECK(says([](auto& o) { o.greatest_bound = 1e-7; }) ==
        "adaptive: greatest_bound is 1e-07; give a finite number of at least least_bound");
  CHECK(says([](auto& o) { o.greatest_bound = 0.5; }) == "adaptive: the bound of group 0 starts at 1, outside [1e-06, "
                                                         "0.5]; widen least_bound and greatest_bound or start inside");
  CHECK_THROWS_WITH(bound(adaptive{flat{0}, usual()}),
                    "max_grad_norm of flat clipping is 0; give a finite bound above 0");
}

TEST_CASE("the description, which ranks compare, holds every option") {
  CHECK(bound(with([](auto&) {})).describe() ==
        "adaptive(flat(max_grad_norm=1), target_quantile=0.5, learning_rate=0.2, count_noise_std=4, "
        "expected_batch_size=across_ranks(10), bounds within [1e-06, 1e+06])");
}
