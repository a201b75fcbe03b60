// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/dp_optimizer/release.hpp"

#include "support/catch.hpp"
#include "support/probes.hpp"

#include <cstdint>
#include <vector>

using namespace dpopt;
using test::journal;
using test::probe_noise;

namespace {
const address here{purpose::gradient, 3, 17, 5, 1024};
} // namespace

TEMPLATE_TEST_CASE("a released number is (sum + noise) / divisor, and the sum is left at zero", "", float, double) {
  using T = TestType;
  journal log;
  probe_noise noise{1.0, &log};
  std::vector<T> sum = {1, -2, 0};
  std::vector<T> out(3, T(99));
  release_tile(sum.data(), 3, here, {.unit = 1, .noise_std = 0.5, .divisor = 4}, noise, out.data());
  CHECK(out == std::vector<T>{T(0.375), T(-0.375), T(0.125)});
  CHECK(sum == std::vector<T>{0, 0, 0});
  REQUIRE(log.noise.size() == 1);
  CHECK(log.noise[0].std == 0.5);
  CHECK(log.noise[0].count == 3);
  CHECK(log.noise[0].where.step == 17);
  CHECK(log.noise[0].where.lane == 3);
  CHECK(log.noise[0].where.parameter == 5);
  CHECK(log.noise[0].where.element == 1024);
}

TEST_CASE("a sum in double is released in float by one rounding") {
  probe_noise noise;
  std::vector<double> sum = {1.0 / 3};
  std::vector<float> out(1);
  release_tile(sum.data(), 1, here, {.unit = 1, .noise_std = 1e-3, .divisor = 7}, noise, out.data());
  CHECK(out[0] == static_cast<float>((1.0 / 3 + 1e-3) / 7));
  CHECK(sum[0] == 0);
}

TEST_CASE("noise for an integer sum is added in gradient units, after the unit was applied") {
  journal log;
  probe_noise noise{1.0, &log};
  std::vector<std::int64_t> sum = {8, -16};
  std::vector<double> out(2);
  release_tile(sum.data(), 2, here, {.unit = 0.25, .noise_std = 0.5, .divisor = 2}, noise, out.data());
  CHECK(out == std::vector<double>{1.25, -1.75});
  CHECK(sum == std::vector<std::int64_t>{0, 0});
  REQUIRE(log.noise.size() == 1);
  CHECK(log.noise[0].std == 0.5);
}

TEST_CASE("std 0 draws nothing: somebody added the noise before, or there is none") {
  journal log;
  probe_noise noise{1.0, &log};
  std::vector<double> sum = {6};
  std::vector<double> out(1);
  release_tile(sum.data(), 1, here, {.unit = 1, .noise_std = 0, .divisor = 3}, noise, out.data());
  CHECK(out[0] == 2);
  CHECK(log.noise.empty());
}
