// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "support/simt/rows.hpp"

#include "dpopt/clipping/automatic.hpp"
#include "dpopt/clipping/drop_above.hpp"
#include "dpopt/clipping/psac.hpp"
#include "dpopt/clipping/unit_norm.hpp"
#include "dpopt/cuda/clip_factors.cuh"
#include "dpopt/dp_optimizer/contributions.hpp"
#include "support/catch.hpp"

#include <cmath>
#include <limits>
#include <random>
#include <vector>

using namespace dpopt;

namespace {

struct microbatch_norms {
  std::vector<double> squared, weights;
  explicit microbatch_norms(isize n) : squared(static_cast<std::size_t>(n)), weights(squared.size()) {
    std::mt19937 bits(3);
    std::exponential_distribution<double> norms(0.5);
    for (std::size_t i = 0; i < squared.size(); ++i) {
      squared[i] = std::pow(norms(bits), 2);
      weights[i] = i % 5 == 2 ? 0 : i % 7 == 3 ? -0.5 : 1.25;
      if (i % 13 == 9) weights[i] = std::numeric_limits<double>::quiet_NaN();
      if (i % 11 == 5) squared[i] = std::numeric_limits<double>::quiet_NaN();
      if (i % 11 == 7) squared[i] = std::numeric_limits<double>::infinity();
      if (i % 11 == 8) squared[i] = 0;
    }
  }
};

/// What contributions::compute_factors says, in its words.
template <class Rule>
void check(const Rule& rule, isize n, isize members, bool weighted, double gradient_scale) {
  const microbatch_norms m(n);
  const double* const weights = weighted ? m.weights.data() : nullptr;
  std::vector<double> expected(m.squared.size()), factors(m.squared.size(), -1);
  private_counts counted;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    const double w = gradient_scale * (weights ? weights[i] : 1.0);
    ++counted.samples;
    if (w == 0) continue;
    const double whole = members > 1 ? upper_bound_of_sum(m.squared[i], members) : m.squared[i];
    const double norm = std::sqrt(whole) * std::abs(w);
    const double scale = rule(norm);
    if (!std::isfinite(norm) || !std::isfinite(scale * w)) ++counted.non_finite;
    else {
      expected[i] = scale * w;
      if (scale < 1) ++counted.clipped;
    }
  }
  std::vector<cuda::sample_counts> counts(1);
  simt::run<cuda::clip_factors<Rule>>(cuda::clip_factors_shape(n),
                                      cuda::group_norms<Rule>{rule, m.squared.data(), members},
                                      cuda::sample_weights{n, weights, gradient_scale}, factors.data(), counts.data());
  CHECK(factors == expected);
  const auto on_device = counts[0].as_private_counts();
  CHECK(on_device.samples == counted.samples);
  CHECK(on_device.clipped == counted.clipped);
  CHECK(on_device.non_finite == counted.non_finite);
}

} // namespace

TEST_CASE("cuda clip factors: bits and counts of the CPU, for every rule and size", "[cuda][clip_factors]") {
  for (const isize n : simt::edge_sizes) {
    INFO("batch " << n);
    check(norm_bound{1.5}, n, 1, true, 1);
    check(norm_bound{1.5}, n, 3, false, 2);
  }
  check(norm_bound{1.5}, 3001, 2, true, 1);
  check(automatic_rule{1, 0.01}, 70, 2, true, 1);
  check(psac_rule{1, 0.1}, 70, 1, true, 0.25);
  check(drop_above_rule{0.5, 2}, 70, 1, true, 1);
  check(scaled_rule<norm_bound>{{1.5}, 0.3}, 70, 1, true, 64);
  check(norm_bound{1.5}, 70, 1, true, 0);
}

TEST_CASE("cuda clip factors: what is not finite gives 0 in every schedule, also without counts",
          "[cuda][clip_factors][tiny]") {
  const microbatch_norms m(40);
  simt::under_all_schedules([&] {
    std::vector<double> factors(40, -1);
    const cuda::sample_weights all{40, nullptr, 1};
    simt::run<cuda::clip_factors<automatic_rule>>(
        {2, 32}, cuda::group_norms<automatic_rule>{{1, 0.01}, m.squared.data(), 1}, all, factors.data(), nullptr);
    for (std::size_t i = 0; i < factors.size(); ++i) CHECK((factors[i] == 0) == !std::isfinite(m.squared[i]));
    std::vector<cuda::sample_counts> counts(1);
    simt::run<cuda::clip_factors<norm_bound>>({2, 32}, cuda::group_norms<norm_bound>{{1}, m.squared.data(), 1}, all,
                                              factors.data(), counts.data());
    CHECK(counts[0].samples == 40);
  });
}

TEST_CASE("cuda clip factors: many groups in one launch, each with its own rule, norms and factors",
          "[cuda][clip_factors][tiny]") {
  for (const isize n : {0, 1, 31, 32, 33, 255, 256, 257, 700}) {
    const isize groups = n < 100 ? 5 : 2;
    const microbatch_norms m(groups * n);
    const cuda::sample_weights all{n, m.weights.data(), 0.5};
    cuda::argument_table<cuda::group_norms<norm_bound>> table;
    std::vector<double> expected(m.squared.size()), factors(m.squared.size(), -1);
    std::vector<cuda::sample_counts> alone(1);
    for (isize g = 0; g < groups; ++g) {
      const cuda::group_norms<norm_bound> group{{0.5 + static_cast<double>(g)}, m.squared.data() + g * n, 1 + g};
      table.add(group);
      simt::run<cuda::clip_factors<norm_bound>>(cuda::clip_factors_shape(n), group, all, expected.data() + g * n,
                                                alone.data());
    }
    simt::under_all_schedules([&] {
      std::vector<cuda::sample_counts> counts(1);
      simt::run<cuda::clip_factors_of_many<norm_bound>>(cuda::clip_factors_shape(n, groups), table, all, factors.data(),
                                                        counts.data());
      CHECK(factors == expected);
      CHECK(counts[0].samples == static_cast<unsigned long long>(groups * n));
      CHECK(counts[0].clipped == alone[0].clipped);
      CHECK(counts[0].non_finite == alone[0].non_finite);
    });
  }
}
