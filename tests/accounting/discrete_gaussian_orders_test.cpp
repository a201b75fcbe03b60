// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// The claims of the header against the definition, summed over the integers in long double.
#include "dpopt/accounting/discrete_gaussian_orders.hpp"

#include "dpopt/accounting/calibration.hpp"
#include "dpopt/accounting/rdp_accountant.hpp"
#include "support/catch.hpp"
#include "support/discrete_law.hpp"

#include <cmath>
#include <limits>
#include <vector>

using namespace dpopt;
using dpopt::test::discrete_law;

namespace {

constexpr noise_kind discrete = noise_kind::discrete_gaussian;
constexpr double infinite = std::numeric_limits<double>::infinity();

// Renyi divergence of P_0 and (1 - q) P_0 + q P_v on the integers, in both directions.
struct divergences {
  double one_more = 0;
  double one_less = 0;
};
divergences by_definition(long double order, long double q, long double sigma, int v) {
  const int reach = static_cast<int>(60 * sigma) + static_cast<int>(order) * v + 60;
  long double all = 0, more = 0, less = 0;
  for (int x = -reach; x <= reach; ++x) {
    const long double log_ratio = static_cast<long double>(v) * (2 * x - v) / (2 * sigma * sigma);
    const long double log_w = q == 1 ? log_ratio : std::log1p(q * std::expm1(log_ratio));
    const long double log_p = -static_cast<long double>(x) * x / (2 * sigma * sigma);
    all += std::exp(log_p);
    more += std::exp(log_p + order * log_w);
    less += std::exp(log_p + (1 - order) * log_w);
  }
  return {static_cast<double>(std::log(more / all) / (order - 1)),
          static_cast<double>(std::log(less / all) / (order - 1))};
}

rdp_accountant after(const std::vector<gaussian_event>& events, std::vector<double> orders = default_rdp_orders()) {
  rdp_accountant out(std::move(orders));
  for (const gaussian_event& event : events) out.record(event);
  return out;
}

std::vector<double> integers_among_the_defaults() {
  std::vector<double> out;
  for (const double order : default_rdp_orders())
    if (order == std::floor(order)) out.push_back(order);
  return out;
}

} // namespace

TEST_CASE("at integer orders the discrete Gaussian costs what the Gaussian costs, sampled or not") {
  for (const double sigma : {0.3, 0.5, 1.0, 4.0})
    for (const double q : {1.0, 0.5, 0.01})
      for (const double order : {2.0, 3.0, 8.0, 20.0})
        for (const int v : {1, 2}) {
          INFO("sigma " << sigma << " q " << q << " order " << order << " shift " << v);
          const divergences exact = by_definition(order, q, sigma, v);
          const gaussian_event event{.noise_multiplier = sigma / v, .sampling_rate = q, .kind = discrete};
          CHECK(rdp_of_one(event, order) == Approx(exact.one_more).epsilon(1e-10));
          CHECK(exact.one_less <= exact.one_more * (1 + 1e-12) + 1e-17);
        }
}

TEST_CASE("one unit less never costs more than one unit more, also at other orders") {
  for (const double sigma : {0.3, 0.8, 2.0})
    for (const double q : {0.9, 0.1})
      for (const double order : {1.1, 1.5, 2.5, 7.3}) {
        INFO("sigma " << sigma << " q " << q << " order " << order);
        const divergences exact = by_definition(order, q, sigma, 1);
        CHECK(exact.one_less <= exact.one_more * (1 + 1e-12));
      }
}

TEST_CASE("a contribution that is shorter than the sensitivity costs less") {
  const gaussian_event event{.noise_multiplier = 0.5, .sampling_rate = 0.3, .kind = discrete}; // shift 2, sigma 1
  for (const double order : {2.0, 5.0}) CHECK(by_definition(order, 0.3L, 1, 1).one_more < rdp_of_one(event, order));
}

TEST_CASE("only integer orders count for discrete noise") {
  CHECK(holds_for_discrete_gaussian(2));
  CHECK(holds_for_discrete_gaussian(1024));
  for (const double order : {1.0, 1.5, 2.5, 10.9, 1.9999999999999998}) CHECK_FALSE(holds_for_discrete_gaussian(order));
  const gaussian_event event{.noise_multiplier = 1.1, .sampling_rate = 0.1, .count = 100, .kind = discrete};
  for (const double order : {1.5, 2.5, 10.9}) CHECK(rdp_of_one(event, order) == infinite);
  CHECK(after({event}, {1.5, 2.5, 7.25}).epsilon(1e-5) == infinite);
  CHECK(after({event}).epsilon(1e-5) == after({event}, integers_among_the_defaults()).epsilon(1e-5));
  CHECK(after({event}).best_order(1e-5) == std::floor(after({event}).best_order(1e-5)));
}

TEST_CASE("where the best order is fractional, discrete noise costs more than a Gaussian, and elsewhere the same") {
  gaussian_event few{.noise_multiplier = 0.5, .sampling_rate = 0.2, .count = 40}; // the best order is near 2
  const double smooth = after({few}).epsilon(1e-5);
  REQUIRE(after({few}).best_order(1e-5) != std::floor(after({few}).best_order(1e-5)));
  few.kind = discrete;
  CHECK(after({few}).epsilon(1e-5) > smooth);
  gaussian_event tiny{.noise_multiplier = 20, .sampling_rate = 0.01}; // the best order is large
  const double least = after({tiny}).epsilon(1e-5);
  tiny.kind = discrete;
  CHECK(after({tiny}).epsilon(1e-5) == least);
}

TEST_CASE("both kinds in one history add up at the integer orders, in any order, and are told apart") {
  const gaussian_event smooth{.noise_multiplier = 0.9, .sampling_rate = 0.1, .count = 50};
  gaussian_event grainy = smooth;
  grainy.kind = discrete;
  gaussian_event twice = smooth;
  twice.count = 100;
  const double expected = after({twice}, integers_among_the_defaults()).epsilon(1e-5);
  CHECK(after({smooth, grainy}).epsilon(1e-5) == Approx(expected).epsilon(1e-14));
  CHECK(after({grainy, smooth}).epsilon(1e-5) == Approx(expected).epsilon(1e-14));
  CHECK(after({smooth, smooth, grainy, smooth, grainy}).history().size() == 4);
  CHECK(after({smooth, grainy}).history().back().kind == discrete);
  CHECK(after({twice}).epsilon(1e-5) < expected); // so they were not one and the same
  CHECK(after({smooth, grainy}, {1.5, 2.5}).epsilon(1e-5) == infinite);
}

TEST_CASE("epsilon is above the exact one of a single discrete release") {
  for (const double sigma : {0.5, 1.0, 3.0, 10.0})
    for (const double delta : {1e-3, 1e-5, 1e-8}) {
      INFO("sigma " << sigma << " delta " << delta);
      const double exact = discrete_law::gaussian(sigma).epsilon(delta);
      const double ours = after({{.noise_multiplier = sigma, .kind = discrete}}).epsilon(delta);
      CHECK(ours >= exact);
      CHECK(ours <= 2 * exact);
    }
}

TEST_CASE("replace_one needs no sampling argument: the full divergence, at integer orders") {
  const gaussian_event event{
      .noise_multiplier = 1.5, .sampling_rate = 0.1, .relation = neighbouring::replace_one, .kind = discrete};
  CHECK(rdp_of_one(event, 3) == Approx(3 / (2 * 1.5 * 1.5)));
  CHECK(rdp_of_one(event, 2.5) == infinite);
}

TEST_CASE("calibration for discrete noise meets the target at integer orders, with at least a Gaussian's noise") {
  noise_target target{.epsilon = 8, .delta = 1e-4, .sampling_rate = 0.25, .steps = 200};
  const double smooth = find_noise_multiplier(target);
  target.kind = discrete;
  const double grainy = find_noise_multiplier(target);
  CHECK(grainy >= smooth);
  CHECK(grainy <= 1.05 * smooth);
  CHECK(after({{.noise_multiplier = grainy, .sampling_rate = 0.25, .count = 200, .kind = discrete}}).epsilon(1e-4) <=
        8);
  CHECK(after({{.noise_multiplier = grainy * (1 - 1e-8), .sampling_rate = 0.25, .count = 200, .kind = discrete}})
            .epsilon(1e-4) > 8);
}
