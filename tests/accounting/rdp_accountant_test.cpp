// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/accounting/no_accountant.hpp"
#include "dpopt/accounting/rdp_accountant.hpp"
#include "support/catch.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <utility>
#include <vector>

using namespace dpopt;

namespace {

double epsilon_of(const std::vector<gaussian_event>& events, double delta) {
  rdp_accountant accountant;
  for (const gaussian_event& event : events) accountant.record(event);
  return accountant.epsilon(delta);
}

// Exact epsilon of one Gaussian release: the root of delta(epsilon) = F(1 / (2 s) - epsilon s) - e^epsilon
// F(-1 / (2 s) - epsilon s), F the normal distribution (Balle and Wang 2018, theorem 8). n releases are one with
// s / sqrt(n).
double exact_gaussian_epsilon(double s, double delta) {
  const auto normal = [](double x) { return 0.5 * std::erfc(-x / std::sqrt(2.0)); };
  double low = 0, high = 200;
  while (high - low > 1e-9) {
    const double e = (low + high) / 2;
    const double reached = normal(0.5 / s - e * s) - std::exp(e) * normal(-0.5 / s - e * s);
    (reached > delta ? low : high) = e;
  }
  return high;
}

} // namespace

TEST_CASE("epsilon grows with steps and rate and falls with noise and delta") {
  const gaussian_event base{.noise_multiplier = 1.1, .sampling_rate = 0.01, .count = 1000};
  double last = 0;
  for (const std::uint64_t steps : {1u, 10u, 1000u, 10000u, 1000000u}) {
    gaussian_event event = base;
    event.count = steps;
    const double now = epsilon_of({event}, 1e-5);
    INFO("steps " << steps);
    CHECK(now > last);
    last = now;
  }
  last = 0;
  for (const double rate : {1e-4, 1e-3, 0.01, 0.1, 0.5, 1.0}) {
    gaussian_event event = base;
    event.sampling_rate = rate;
    const double now = epsilon_of({event}, 1e-5);
    INFO("rate " << rate);
    CHECK(now > last);
    last = now;
  }
  last = std::numeric_limits<double>::infinity();
  for (const double sigma : {0.2, 0.5, 0.8, 1.0, 1.5, 4.0, 20.0}) {
    gaussian_event event = base;
    event.noise_multiplier = sigma;
    const double now = epsilon_of({event}, 1e-5);
    INFO("sigma " << sigma);
    CHECK(now < last);
    last = now;
  }
  last = std::numeric_limits<double>::infinity();
  for (const double delta : {1e-12, 1e-8, 1e-5, 1e-2, 0.3}) {
    const double now = epsilon_of({base}, delta);
    INFO("delta " << delta);
    CHECK(now < last);
    last = now;
  }
}

TEST_CASE("epsilon is above the exact one of Gaussian releases, by at most a sixth") {
  int compared = 0;
  for (const double sigma : {0.5, 1.0, 3.0, 30.0}) {
    for (const std::uint64_t count : {1u, 25u, 400u}) {
      for (const double delta : {1e-3, 1e-5, 1e-9}) {
        const double exact = exact_gaussian_epsilon(sigma / std::sqrt(static_cast<double>(count)), delta);
        if (exact < 0.5 || exact > 100) continue; // outside, RDP is looser, and exp(epsilon) loses digits here
        const double ours = epsilon_of({{.noise_multiplier = sigma, .count = count}}, delta);
        INFO("sigma " << sigma << " count " << count << " delta " << delta << " exact " << exact);
        CHECK(ours >= exact);
        CHECK(ours <= exact * 7 / 6);
        ++compared;
      }
    }
  }
  CHECK(compared >= 20);
}

TEST_CASE("equal releases in a row are one run, and cost the same told at once or one by one") {
  rdp_accountant at_once, one_by_one;
  at_once.record({.noise_multiplier = 1.3, .sampling_rate = 0.02, .count = 300});
  for (int i = 0; i < 300; ++i) one_by_one.record({.noise_multiplier = 1.3, .sampling_rate = 0.02});
  CHECK(at_once.epsilon(1e-6) == one_by_one.epsilon(1e-6));
  REQUIRE(one_by_one.history().size() == 1);
  CHECK(one_by_one.history()[0].count == 300);

  one_by_one.record({.noise_multiplier = 1.4, .sampling_rate = 0.02});
  one_by_one.record({.noise_multiplier = 1.4, .sampling_rate = 0.03});
  one_by_one.record({.noise_multiplier = 1.4, .sampling_rate = 0.03, .relation = neighbouring::replace_one});
  CHECK(one_by_one.history().size() == 4);

  // A count that would wrap starts a new run.
  rdp_accountant many;
  many.record({.noise_multiplier = 1e6, .count = std::numeric_limits<std::uint64_t>::max()});
  const double before = many.epsilon(1e-5);
  many.record({.noise_multiplier = 1e6, .count = 2});
  CHECK(many.history().size() == 2);
  CHECK(many.epsilon(1e-5) >= before);
}

TEST_CASE("a mixed history costs the sum at each order, whatever the order of events") {
  const gaussian_event a{.noise_multiplier = 1.5, .sampling_rate = 0.01, .count = 40};
  const gaussian_event b{.noise_multiplier = 0.9, .sampling_rate = 0.003, .count = 70};
  const gaussian_event c{.noise_multiplier = 8};
  const double delta = 1e-5;
  double expected = std::numeric_limits<double>::infinity();
  for (const double order : default_rdp_orders()) {
    const double rdp = 40 * rdp_of_one(a, order) + 70 * rdp_of_one(b, order) + rdp_of_one(c, order);
    expected = std::min(expected, rdp_to_epsilon(order, rdp, delta));
  }
  CHECK(epsilon_of({a, b, c}, delta) == Approx(expected).epsilon(1e-13));
  CHECK(epsilon_of({c, a, b}, delta) == Approx(expected).epsilon(1e-13));
  CHECK(expected > epsilon_of({a, b}, delta));
}

TEST_CASE("replaying the history gives the same bits, also after many alternations") {
  rdp_accountant original;
  for (int i = 0; i < 2000; ++i) {
    original.record({.noise_multiplier = 1.0 + 0.1 * (i % 11), .sampling_rate = 0.01, .count = 3});
  }
  rdp_accountant replayed;
  for (const gaussian_event& event : original.history()) replayed.record(event);
  CHECK(replayed.epsilon(1e-5) == original.epsilon(1e-5));
  CHECK(replayed.best_order(1e-5) == original.best_order(1e-5));

  double sum = 0; // at the best order, in another order of summation
  const double order = original.best_order(1e-5);
  for (int k = 0; k < 11; ++k) {
    const double times = 3.0 * (2000 / 11 + (k < 2000 % 11 ? 1 : 0));
    sum += times * subsampled_gaussian_rdp(order, 0.01, 1.0 + 0.1 * k);
  }
  CHECK(original.epsilon(1e-5) == Approx(rdp_to_epsilon(order, sum, 1e-5)).epsilon(1e-13));
}

TEST_CASE("nothing released costs nothing, and a release without noise costs everything, for ever") {
  rdp_accountant accountant;
  CHECK(accountant.epsilon(1e-5) == 0);
  accountant.record({.noise_multiplier = 0, .sampling_rate = 0.01});
  CHECK(std::isinf(accountant.epsilon(1e-5)));
  accountant.record({.noise_multiplier = 5, .sampling_rate = 0.01});
  CHECK(std::isinf(accountant.epsilon(0.5)));
  accountant.record({.noise_multiplier = 0, .sampling_rate = 0.01});
  accountant.record({.noise_multiplier = 6, .sampling_rate = 0.01});
  CHECK(std::isinf(accountant.epsilon(1e-5)));
}

TEST_CASE("sampling amplifies add_remove and not replace_one") {
  gaussian_event event{.noise_multiplier = 2, .sampling_rate = 0.01, .count = 10};
  const double amplified = epsilon_of({event}, 1e-5);
  event.relation = neighbouring::replace_one;
  const double replaced = epsilon_of({event}, 1e-5);
  event.sampling_rate = 1;
  CHECK(replaced == epsilon_of({event}, 1e-5));
  CHECK(amplified < replaced / 5);
}

TEST_CASE("the default orders are never worse than the integers and are close to the best order of all") {
  std::vector<double> integers, fine;
  for (int i = 2; i <= 64; ++i) integers.push_back(i);
  for (const double i : {128.0, 256.0, 512.0, 1024.0}) integers.push_back(i);
  for (double above_one = 0.02; above_one < 900; above_one *= 1.01) fine.push_back(1 + above_one);
  for (const gaussian_event& event : std::vector<gaussian_event>{{0.6, 0.02, 300}, {1, 0.01, 10}, {9, 0.08, 1000}}) {
    rdp_accountant standard, with_integers(integers), with_fine(fine);
    standard.record(event);
    with_integers.record(event);
    with_fine.record(event);
    INFO("sigma " << event.noise_multiplier);
    CHECK(standard.epsilon(1e-5) <= with_integers.epsilon(1e-5));
    CHECK(standard.epsilon(1e-5) <= with_fine.epsilon(1e-5) * 1.001);
  }
}

TEST_CASE("best_order is where epsilon is reached") {
  rdp_accountant accountant;
  CHECK(accountant.best_order(1e-5) == accountant.orders().front());
  accountant.record({.noise_multiplier = 1, .sampling_rate = 0.01, .count = 500});
  rdp_accountant only({accountant.best_order(1e-5)});
  only.record(accountant.history()[0]);
  CHECK(only.epsilon(1e-5) == accountant.epsilon(1e-5));
}

TEST_CASE("a bad event is refused by name and records nothing") {
  rdp_accountant accountant;
  accountant.record({.noise_multiplier = 1, .sampling_rate = 0.01});
  const double before = accountant.epsilon(1e-5);
  CHECK_THROWS_WITH(accountant.record({.noise_multiplier = -1}),
                    "noise_multiplier is -1; use a finite number, 0 or more");
  CHECK_THROWS_WITH(accountant.record({.noise_multiplier = INFINITY}),
                    "noise_multiplier is inf; use a finite number, 0 or more");
  CHECK_THROWS_WITH(accountant.record({.noise_multiplier = 1, .sampling_rate = 0}),
                    "sampling_rate is 0; use a number in (0, 1]");
  CHECK_THROWS_WITH(accountant.record({.noise_multiplier = 1, .sampling_rate = NAN}),
                    "sampling_rate is nan; use a number in (0, 1]");
  CHECK_THROWS_WITH(accountant.record({.noise_multiplier = 1, .sampling_rate = 0.01, .count = 0}),
                    "count is 0; an event stands for one release or more");
  CHECK(accountant.history().size() == 1);
  CHECK(accountant.epsilon(1e-5) == before);
  CHECK_THROWS_WITH(accountant.epsilon(0), "delta is 0; use a number in (0, 1)");
  CHECK_THROWS_WITH(accountant.epsilon(1), "delta is 1; use a number in (0, 1)");
  CHECK_THROWS_AS(accountant.epsilon(NAN), invalid_argument);
}

TEST_CASE("bad orders are refused by validate") {
  CHECK_NOTHROW(rdp_accountant().validate());
  CHECK_THROWS_WITH(rdp_accountant(std::vector<double>{}).validate(),
                    "rdp_accountant: the list of orders is empty; give one or more");
  CHECK_THROWS_WITH(rdp_accountant({2, 1}).validate(), "rdp_accountant: order 1 is not a finite number above 1");
  CHECK_THROWS_WITH(rdp_accountant({2, INFINITY}).validate(),
                    "rdp_accountant: order inf is not a finite number above 1");
}

TEST_CASE("no_accountant claims no epsilon but still refuses bad events") {
  no_accountant accountant;
  accountant.record({.noise_multiplier = 1});
  CHECK(std::isinf(accountant.epsilon(1e-5)));
  CHECK_THROWS_AS(accountant.record({.noise_multiplier = NAN}), invalid_argument);
}
