// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/accumulation/running_sum.hpp"

#include "dpopt/gradients/linear_weight.hpp"
#include "dpopt/gradients/materialized.hpp"
#include "support/catch.hpp"
#include "support/random_numbers.hpp"

#include <cmath>
#include <limits>
#include <vector>

using namespace dpopt;
using test::random_numbers;

TEMPLATE_TEST_CASE("running_sum: a sum starts at zero, and resizing clears it", "", float, double) {
  running_sum<TestType> sum;
  sum.resize(3, 1.0);
  for (isize k = 0; k < 3; ++k) CHECK(sum.data()[k] == 0);
  sum.data()[1] = 5;
  sum.resize(3, 1.0);
  CHECK(sum.data()[1] == 0);
  CHECK(sum.unit() == 1);
}

TEST_CASE("running_sum: the description, which ranks compare, tells float from double") {
  CHECK(running_sum<float>().describe() == "running_sum(float)");
  CHECK(running_sum<double>().describe() == "running_sum(double)");
}

TEST_CASE("running_sum: each source is added at its own offset and nowhere else") {
  const std::vector<float> a = {1, 2, 3, 4};
  const std::vector<double> b = {10, 20};
  const std::vector<double> factors = {1, 0.5};
  running_sum<double> sum;
  workspace w;
  sum.resize(5, 1.0);
  sum.add(1, materialized<float>(a.data(), 2, 2), {0, 2}, factors.data(), w);
  sum.add(3, materialized<double>(b.data(), 2, 1), {0, 2}, factors.data(), w);
  const std::vector<double> expected = {0, 2.5, 4, 20, 0};
  for (std::size_t k = 0; k < 5; ++k) CHECK(sum.data()[k] == Approx(expected[k]));
  sum.add(1, materialized<float>(a.data(), 2, 2), {1, 1}, factors.data(), w); // sample 1 alone, by factor 1
  CHECK(sum.data()[1] == Approx(5.5));
  CHECK(sum.data()[2] == Approx(8));
}

TEST_CASE("running_sum: a wide accumulator keeps what a narrow one rounds away") {
  constexpr isize many = 100000;
  const std::vector<float> ones(static_cast<std::size_t>(many), 1e-4F);
  const std::vector<double> factors(static_cast<std::size_t>(many), 1.0);
  const materialized<float> source(ones.data(), many, 1);
  running_sum<double> wide;
  running_sum<float> narrow;
  workspace w;
  wide.resize(1, 1.0);
  narrow.resize(1, 1.0);
  wide.add(0, source, {0, many}, factors.data(), w);
  narrow.add(0, source, {0, many}, factors.data(), w);
  CHECK(*wide.data() == Approx(static_cast<double>(1e-4F) * many).epsilon(1e-12));
  CHECK(std::abs(static_cast<double>(*narrow.data()) - *wide.data()) > 1e-6); // why a wider type is offered
}

TEST_CASE("running_sum: a sample with factor 0 is not read") {
  const std::vector<double> rows = {1, std::numeric_limits<double>::quiet_NaN(), 4};
  const std::vector<double> factors = {1, 0, 1};
  running_sum<double> sum;
  workspace w;
  sum.resize(1, 1.0);
  sum.add(0, materialized<double>(rows.data(), 3, 1), {0, 3}, factors.data(), w);
  CHECK(*sum.data() == Approx(5));
}

TEST_CASE("running_sum: sources of any kind meet in one sum") {
  const std::vector<double> a = random_numbers<double>(2 * 3, 1);
  const std::vector<double> e = random_numbers<double>(2 * 2, 2);
  const std::vector<double> factors = {0.5, 0.25};
  running_sum<float> sum;
  workspace w;
  sum.resize(6, 1.0);
  sum.add(0, linear_weight<double>{a.data(), e.data(), 2, 3, 2}, {0, 2}, factors.data(), w);
  for (std::size_t o = 0; o < 2; ++o)
    for (std::size_t k = 0; k < 3; ++k)
      CHECK(sum.data()[o * 3 + k] == Approx(0.5 * e[o] * a[k] + 0.25 * e[2 + o] * a[3 + k]).epsilon(1e-6).margin(1e-7));
}
