// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/accumulation/deferred_source.hpp"

#include "dpopt/accumulation/integer_grid.hpp"
#include "dpopt/accumulation/running_sum.hpp"
#include "dpopt/gradients/linear_weight.hpp"
#include "dpopt/gradients/materialized.hpp"
#include "support/catch.hpp"
#include "support/random_numbers.hpp"

#include <array>
#include <memory>
#include <type_traits>
#include <vector>

using namespace dpopt;
using test::random_numbers;

namespace {

// A source of exactly the room that is kept inline: all samples have the gradient `values`.
template <std::size_t Numbers>
struct constant_source {
  std::array<double, Numbers> values;

  [[nodiscard]] isize batch() const { return 2; }
  [[nodiscard]] isize size() const { return static_cast<isize>(Numbers); }
  [[nodiscard]] isize block() const { return 17; }
  void add_squared_norms(samples range, double* out, workspace&) const {
    for (isize i = 0; i < range.count; ++i) out[i] += squared_norm(values.data(), size());
  }
  template <class Out>
  void add_weighted_sum(samples range, const double* factors, Out* out, workspace&) const {
    for (isize i = 0; i < range.count; ++i)
      for (std::size_t k = 0; k < Numbers; ++k) out[k] += static_cast<Out>(factors[i] * values[k]);
  }
};

struct alignas(32) over_aligned : constant_source<4> {};

using sum_of_doubles = running_sum<double>;

} // namespace

TEST_CASE("an empty one says so") {
  const deferred_source<sum_of_doubles> none;
  CHECK_FALSE(static_cast<bool>(none));
  const std::vector<double> rows = {1};
  deferred_source<sum_of_doubles> one(materialized<double>(rows.data(), 1, 1));
  CHECK(static_cast<bool>(one));
  one = {};
  CHECK_FALSE(static_cast<bool>(one));
}

TEST_CASE("a deferred source answers as the source itself, after the view has died") {
  const std::vector<float> rows = random_numbers<float>(6 * 11, 1);
  const std::vector<double> factors = random_numbers<double>(6, 2);
  auto view = std::make_unique<materialized<float>>(rows.data(), 6, 10, 11);
  const deferred_source<sum_of_doubles> deferred(*view);
  const isize block = view->block();
  view.reset();
  const materialized<float> direct(rows.data(), 6, 10, 11);
  workspace w;
  CHECK(deferred.block() == block);

  std::vector<double> squares(3, 1.0);
  std::vector<double> expected_squares(3, 1.0);
  deferred.add_squared_norms({2, 3}, squares.data(), w);
  direct.add_squared_norms({2, 3}, expected_squares.data(), w);
  CHECK(squares == expected_squares);

  running_sum<double> sum;
  running_sum<double> expected;
  sum.resize(12, 1.0);
  expected.resize(12, 1.0);
  deferred.add_to(sum, 2, {1, 4}, factors.data(), w);
  expected.add(2, direct, {1, 4}, factors.data(), w);
  for (isize k = 0; k < 12; ++k) CHECK(sum.data()[k] == expected.data()[k]);
}

TEST_CASE("sources of different types are kept side by side") {
  const std::vector<float> rows = {1, 2};
  const std::vector<double> a = {3};
  const std::vector<double> e = {5};
  std::vector<deferred_source<sum_of_doubles>> waiting;
  waiting.emplace_back(materialized<float>(rows.data(), 1, 2));
  waiting.emplace_back(linear_weight<double>{a.data(), e.data(), 1, 1, 1});
  running_sum<double> sum;
  sum.resize(3, 1.0);
  workspace w;
  const double factor = 1;
  waiting[1].add_to(sum, 2, {0, 1}, &factor, w);
  waiting[0].add_to(sum, 0, {0, 1}, &factor, w);
  CHECK(sum.data()[0] == Approx(1));
  CHECK(sum.data()[1] == Approx(2));
  CHECK(sum.data()[2] == Approx(15));
}

TEST_CASE("it works on an integer grid as well") {
  const std::vector<double> rows = {0.5, -0.25};
  const deferred_source<integer_grid> deferred(materialized<double>(rows.data(), 1, 2));
  integer_grid grid(20);
  grid.resize(2, 1.0);
  workspace w;
  const double factor = 1;
  deferred.add_to(grid, 0, {0, 1}, &factor, w);
  CHECK(static_cast<double>(grid.data()[0]) * grid.unit() == Approx(0.5).epsilon(1e-5));
  CHECK(static_cast<double>(grid.data()[1]) * grid.unit() == Approx(-0.25).epsilon(1e-5));
}

TEST_CASE("a source may fill the whole inline room, and copies are apart") {
  constant_source<24> source{};
  STATIC_REQUIRE(sizeof source == source_capacity);
  source.values[23] = 2;
  const deferred_source<sum_of_doubles> first(source);
  source.values[23] = 100;
  deferred_source<sum_of_doubles> second(source);
  const deferred_source<sum_of_doubles> third = second;
  second = {};
  workspace w;
  std::vector<double> squares(2, 0.0);
  first.add_squared_norms({0, 1}, squares.data(), w);
  third.add_squared_norms({0, 1}, squares.data() + 1, w);
  CHECK(squares[0] == Approx(4));
  CHECK(squares[1] == Approx(10000));
  CHECK(first.block() == 17);
}

TEST_CASE("what does not fit is refused when compiling") {
  STATIC_REQUIRE(std::is_constructible_v<deferred_source<sum_of_doubles>, constant_source<24>>);
  STATIC_REQUIRE_FALSE(std::is_constructible_v<deferred_source<sum_of_doubles>, constant_source<25>>); // 200 bytes
  STATIC_REQUIRE_FALSE(std::is_constructible_v<deferred_source<sum_of_doubles>, over_aligned>);        // 32 bytes
  STATIC_REQUIRE_FALSE(std::is_constructible_v<deferred_source<sum_of_doubles>, std::vector<double>>); // no source
  STATIC_REQUIRE_FALSE(std::is_constructible_v<deferred_source<integer_grid>, constant_source<24>>);   // no copy_sample
}
