// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/accumulation/compensated_sum.hpp"

#include "dpopt/accumulation/running_sum.hpp"
#include "dpopt/gradients/linear_weight.hpp"
#include "dpopt/gradients/materialized.hpp"
#include "support/catch.hpp"
#include "support/random_numbers.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

using namespace dpopt;
using test::random_numbers;

namespace {

// The sum of one column by an accumulator, sealed, with factor 1 for each sample.
template <class A, class U>
double sum_by(const std::vector<U>& column) {
  A sum;
  workspace w;
  sum.resize(1, 1.0);
  const std::vector<double> factors(column.size(), 1.0);
  sum.add(0, materialized<U>(column.data(), std::ssize(column), 1), {0, std::ssize(column)}, factors.data(), w);
  if constexpr (SealedAccumulator<A>) sum.seal(0, 1);
  return static_cast<double>(*sum.data());
}

// A large number, a hundred thousand small ones that it swallows one by one, and its opposite.
template <class V>
std::vector<V> adversarial() {
  std::vector<V> column(100002, std::numeric_limits<V>::epsilon() / 4);
  column.front() = 1;
  column.back() = -1;
  return column;
}

} // namespace

TEMPLATE_TEST_CASE("compensated_sum: numbers that a running sum swallows are kept", "", float, double) {
  using V = TestType;
  const std::vector<V> column = adversarial<V>();
  const double exact = 100000.0 * static_cast<double>(std::numeric_limits<V>::epsilon()) / 4;
  CHECK(std::abs(sum_by<running_sum<V>>(column) - exact) > 0.9 * exact); // all of them lost
  // rounded_down takes at most 5 epsilon of each; beyond that two epsilon of the sum itself are rounding.
  const double of_factors = 5 * static_cast<double>(std::numeric_limits<V>::epsilon()) * exact;
  CHECK(std::abs(sum_by<compensated_sum<V>>(column) - exact) <= 2 * of_factors);
}

TEST_CASE("compensated_sum: on random numbers a float sum is right to a float's last digits, whatever their number") {
  const std::vector<double> column = random_numbers<double>(200000, 1);
  long double exact = 0;
  for (const double x : column) exact += static_cast<long double>(x);
  exact *= 1 - 4 * static_cast<long double>(std::numeric_limits<float>::epsilon()); // rounded_down's share
  const auto error = [&](double got) { return std::abs(got - static_cast<double>(exact)); };
  const double ours = error(sum_by<compensated_sum<float>>(column));
  const double plain = error(sum_by<running_sum<float>>(column));
  INFO("compensated " << ours << ", running " << plain << ", sum " << static_cast<double>(exact));
  CHECK(ours <= 6e-8 * std::abs(static_cast<double>(exact))); // half a unit in the last place
  CHECK(ours < plain / 100);
}

TEST_CASE("compensated_sum: the errors are on the wire: each rank seals, then the sums are added") {
  // Every rank holds the adversarial series in another order; without seal() a rank would send almost nothing of it.
  for (const int ranks : {1, 2, 3, 5}) {
    double total = 0;
    for (int r = 0; r < ranks; ++r) {
      std::vector<float> column = adversarial<float>();
      if (r % 2 == 1) std::reverse(column.begin(), column.end());
      total += sum_by<compensated_sum<float>>(column);
    }
    const double exact = ranks * 100000.0 * static_cast<double>(std::numeric_limits<float>::epsilon()) / 4;
    CHECK(total == Approx(exact).epsilon(1e-6));
  }
}

TEST_CASE("compensated_sum: sealing a range leaves the others to be sealed, and sealing twice adds nothing") {
  compensated_sum<float> sum;
  workspace w;
  sum.resize(2, 1.0);
  const std::vector<float> rows = {1, 1, 0x1p-25F, 0x1p-25F, 0x1p-25F, 0x1p-25F, 0x1p-25F, 0x1p-25F};
  const std::vector<double> factors = {1, 1, 1, 1};
  sum.add(0, materialized<float>(rows.data(), 4, 2), {0, 4}, factors.data(), w);
  const float open = sum.data()[1];
  sum.seal(0, 1);
  const float sealed = sum.data()[0];
  CHECK(sealed > open);
  CHECK(sum.data()[1] == open);
  sum.seal(0, 2);
  CHECK(sum.data()[0] == sealed);
  CHECK(sum.data()[1] == sealed);
}

TEST_CASE("compensated_sum: clearing forgets what was lost to rounding, too") {
  compensated_sum<float> sum;
  workspace w;
  sum.resize(1, 1.0);
  const std::vector<float> rows = {1, 0x1p-25F, 0x1p-25F};
  const std::vector<double> factors = {1, 1, 1};
  sum.add(0, materialized<float>(rows.data(), 3, 1), {0, 3}, factors.data(), w);
  sum.clear();
  sum.seal(0, 1);
  CHECK(*sum.data() == 0);
  sum.add(0, materialized<float>(rows.data(), 3, 1), {0, 3}, factors.data(), w);
  sum.resize(1, 1.0);
  sum.seal(0, 1);
  CHECK(*sum.data() == 0);
}

TEMPLATE_TEST_CASE("compensated_sum: one sample adds no more than its bound", "", float, double) {
  using V = TestType;
  for (int seed = 0; seed < 50; ++seed) {
    const std::vector<float> a = random_numbers<float>(8, seed);
    const std::vector<float> e = random_numbers<float>(90, seed + 100); // 720 elements: more than a tile
    const linear_weight<float> source{a.data(), e.data(), 1, 8, 90};
    workspace w;
    double squares = 0;
    source.add_squared_norms({0, 1}, &squares, w);
    const double factor = 0.1 / std::sqrt(squares);
    compensated_sum<V> sum;
    sum.resize(720, 0.1);
    sum.add(0, source, {0, 1}, &factor, w);
    sum.seal(0, 720);
    long double added = 0;
    for (isize k = 0; k < 720; ++k)
      added += static_cast<long double>(sum.data()[k]) * static_cast<long double>(sum.data()[k]);
    CHECK(std::sqrt(added) <= 0.1L);
    CHECK(std::sqrt(added) >= 0.0999L);
  }
}

TEST_CASE("compensated_sum: offsets, skipped samples and the description are as for any accumulator") {
  const std::vector<double> rows = {1, std::numeric_limits<double>::quiet_NaN(), 4};
  const std::vector<double> factors = {1, 0, 0.5};
  compensated_sum<double> sum;
  workspace w;
  sum.resize(3, 1.0);
  sum.add(1, materialized<double>(rows.data(), 3, 1), {0, 3}, factors.data(), w);
  sum.seal(0, 3);
  CHECK(sum.data()[0] == 0);
  CHECK(sum.data()[1] == Approx(3));
  CHECK(sum.data()[2] == 0);
  CHECK(sum.unit() == 1);
  CHECK(compensated_sum<float>().describe() == "compensated_sum(float)");
  CHECK(compensated_sum<double>().describe() == "compensated_sum(double)");
}
