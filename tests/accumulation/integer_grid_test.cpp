// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/accumulation/integer_grid.hpp"

#include "dpopt/gradients/callback.hpp"
#include "dpopt/gradients/linear_weight.hpp"
#include "dpopt/gradients/materialized.hpp"
#include "dpopt/gradients/tied.hpp"
#include "support/catch.hpp"
#include "support/random_numbers.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <numeric>
#include <random>
#include <vector>

using namespace dpopt;
using test::random_numbers;

namespace {

const std::vector<double> random_row = random_numbers<double>(720, 9);

std::vector<std::int64_t> numbers(integer_grid& grid, isize n) { return {grid.data(), grid.data() + n}; }

// One sample of one parameter with the given factor.
std::vector<std::int64_t> of_one_sample(integer_grid& grid, const std::vector<double>& row, double factor) {
  workspace w;
  grid.add(0, materialized<double>(row.data(), 1, std::ssize(row)), {0, 1}, &factor, w);
  return numbers(grid, std::ssize(row));
}

} // namespace

TEST_CASE("integer_grid: the sum has the same bits in any order of samples and any split into parts") {
  constexpr isize batch = 64;
  constexpr isize size = 700; // more than a tile
  const std::vector<float> rows = random_numbers<float>(batch * size, 1);
  const std::vector<double> factors = random_numbers<double>(batch, 2);
  workspace w;

  integer_grid at_once;
  at_once.resize(size, 1.0);
  at_once.add(0, materialized<float>(rows.data(), batch, size), {0, batch}, factors.data(), w);

  std::vector<isize> order(static_cast<std::size_t>(batch));
  std::iota(order.begin(), order.end(), 0);
  std::shuffle(order.begin(), order.end(), std::mt19937(3));
  integer_grid shuffled;
  shuffled.resize(size, 1.0);
  for (const isize i : order)
    shuffled.add(0, materialized<float>(rows.data(), batch, size), {i, 1}, factors.data() + i, w);
  CHECK(numbers(shuffled, size) == numbers(at_once, size));

  for (const isize ranks : {2, 3, 5}) { // each rank sums a share, then the sums are added
    std::vector<std::int64_t> total(static_cast<std::size_t>(size), 0);
    for (isize r = ranks - 1; r >= 0; --r) {
      integer_grid part;
      part.resize(size, 1.0);
      for (isize i = r; i < batch; i += ranks)
        part.add(0, materialized<float>(rows.data(), batch, size), {i, 1}, factors.data() + i, w);
      for (std::size_t k = 0; k < total.size(); ++k) total[k] += part.data()[k];
    }
    CHECK(total == numbers(at_once, size));
  }
}

TEST_CASE("integer_grid: the sum is the weighted sum to within a unit a sample") {
  constexpr isize batch = 20;
  constexpr isize size = 9;
  const std::vector<double> rows = random_numbers<double>(batch * size, 4);
  const std::vector<double> factors = random_numbers<double>(batch, 5);
  integer_grid grid;
  workspace w;
  grid.resize(size, 1.0);
  grid.add(0, materialized<double>(rows.data(), batch, size), {0, batch}, factors.data(), w);
  for (std::size_t k = 0; k < size; ++k) {
    double exact = 0;
    for (std::size_t i = 0; i < batch; ++i) exact += factors[i] * rows[i * size + k];
    CHECK(std::abs(static_cast<double>(grid.data()[k]) * grid.unit() - exact) <= batch * grid.unit() + 1e-13);
  }
}

TEST_CASE("integer_grid: numbers are rounded towards zero, so that no norm grows") {
  integer_grid grid(4);
  grid.resize(6, 1.0); // 1 < 2, so the unit is 2 / 16
  REQUIRE(grid.unit() == 0.125);
  const std::vector<std::int64_t> got = of_one_sample(grid, {0.3, -0.3, 0.124, -0.124, 0.2501, 0}, 1.0);
  CHECK(got == std::vector<std::int64_t>{2, -2, 0, 0, 2, 0});
}

TEST_CASE("integer_grid: the norm of a rounded sample is never above its bound") {
  for (int seed = 0; seed < 100; ++seed)
    for (const double bound : {1.0, 0.7, 1e-6, 3e5}) {
      const std::vector<double> row = random_numbers<double>(30, seed);
      double squares = 0;
      workspace w;
      materialized<double>(row.data(), 1, 30).add_squared_norms({0, 1}, &squares, w);
      integer_grid grid(10 + seed % 20);
      grid.resize(30, bound);
      long double rounded = 0;
      for (const std::int64_t q : of_one_sample(grid, row, bound / std::sqrt(squares)))
        rounded += static_cast<long double>(q) * static_cast<long double>(q);
      REQUIRE(std::sqrt(rounded) * static_cast<long double>(grid.unit()) <= static_cast<long double>(bound));
    }
}

TEST_CASE("integer_grid: the unit is a power of two below the bound, whatever the bound") {
  for (const double bound : {1.0, 0.999, 1.001, 1e-30, 1e30}) {
    integer_grid grid(36);
    grid.resize(1, bound);
    int exponent = 0;
    CHECK(std::frexp(grid.unit(), &exponent) == 0.5);
    CHECK(grid.unit() > std::ldexp(bound, -36));
    CHECK(grid.unit() <= std::ldexp(bound, -35));
  }
}

TEST_CASE("integer_grid: a sample with factor 0 is not read") {
  integer_grid grid;
  grid.resize(2, 1.0);
  CHECK(of_one_sample(grid, {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}, 0) ==
        std::vector<std::int64_t>{0, 0});
}

TEST_CASE("integer_grid: a source without written-out gradients meets the grid by copy_sample") {
  const std::vector<float> a = {0.5F, 0.25F};
  const std::vector<float> e = {1, -0.5F};
  integer_grid grid(20);
  workspace w;
  grid.resize(5, 1.0);
  const double factor = 1;
  grid.add(1, linear_weight<float>{a.data(), e.data(), 1, 2, 2}, {0, 1}, &factor, w);
  CHECK(grid.data()[0] == 0);
  const std::vector<double> expected = {0.5, 0.25, -0.25, -0.125};
  for (std::size_t k = 0; k < 4; ++k)
    CHECK(static_cast<double>(grid.data()[1 + k]) * grid.unit() == Approx(expected[k]).margin(grid.unit()));
}

TEST_CASE("integer_grid: the rounded contribution of a factored sample is within its bound, and close to it") {
  for (int seed = 0; seed < 60; ++seed)
    for (const double bound : {1.0, 0.7, 1e-6, 3e5}) {
      const std::vector<double> a = random_numbers<double>(12, seed);
      const std::vector<double> e = random_numbers<double>(60, seed + 100); // 720 elements: more than a tile
      const linear_weight<double> layer{a.data(), e.data(), 1, 12, 60};
      const tied both{layer, materialized<double>(random_row.data(), 1, 720)};
      const auto check = [bound](const auto& source, int bits) {
        double squares = 0;
        workspace w;
        source.add_squared_norms({0, 1}, &squares, w);
        const double factor = bound / std::sqrt(squares);
        integer_grid grid(bits);
        grid.resize(720, bound);
        grid.add(0, source, {0, 1}, &factor, w);
        long double rounded = 0;
        for (const std::int64_t q : numbers(grid, 720))
          rounded += static_cast<long double>(q) * static_cast<long double>(q);
        const long double norm = std::sqrt(rounded) * static_cast<long double>(grid.unit());
        REQUIRE(norm <= static_cast<long double>(bound));
        // Every number lost less than a unit, and rounded_down took 4 epsilon.
        REQUIRE(norm >= static_cast<long double>(bound) * (1 - 1e-14L) -
                            std::sqrt(720.0L) * static_cast<long double>(grid.unit()));
      };
      check(layer, 10 + seed % 26);
      check(both, 10 + seed % 26);
    }
}

TEST_CASE("integer_grid: factored samples have the same bits in any order, split, tile and rank") {
  constexpr isize batch = 40;
  const std::vector<float> a = random_numbers<float>(batch * 30, 1);
  const std::vector<float> e = random_numbers<float>(batch * 25, 2);
  const linear_weight<float> layer{a.data(), e.data(), batch, 30, 25};
  const std::vector<double> factors = random_numbers<double>(batch, 3);
  workspace w;
  integer_grid at_once;
  at_once.resize(750, 1e3);
  at_once.add(0, layer, {0, batch}, factors.data(), w);

  std::vector<float> reversed_a, reversed_e; // microbatches of 7 in reverse order, as a trainer would arrange them
  integer_grid parts;
  parts.resize(750, 1e3);
  for (isize last = batch; last > 0; last -= 7) {
    const isize count = std::min<isize>(7, last);
    reversed_a.clear();
    reversed_e.clear();
    std::vector<double> f;
    for (isize i = last - 1; i >= last - count; --i) {
      reversed_a.insert(reversed_a.end(), a.begin() + i * 30, a.begin() + (i + 1) * 30);
      reversed_e.insert(reversed_e.end(), e.begin() + i * 25, e.begin() + (i + 1) * 25);
      f.push_back(factors[static_cast<std::size_t>(i)]);
    }
    parts.add(0, linear_weight<float>{reversed_a.data(), reversed_e.data(), count, 30, 25}, {0, count}, f.data(), w);
  }
  CHECK(numbers(parts, 750) == numbers(at_once, 750));

  auto write = [&](isize i, double* g) { layer.copy_sample(i, 0, 750, 1.0, g); }; // asked for whole samples, not tiles
  integer_grid whole;
  whole.resize(750, 1e3);
  whole.add(0, callback(write, batch, 750), {0, batch}, factors.data(), w);
  for (std::size_t k = 0; k < 750; ++k) // another order of the two products: a unit a sample may differ
    CHECK(std::abs(whole.data()[k] - at_once.data()[k]) <= batch);
}

TEST_CASE("integer_grid: a factor beyond 1 / unit meets a gradient as small as it is large") {
  // Weights of 1e300 on gradients of 1e-300: their product is 1, and so is what arrives.
  const std::vector<double> rows = {1e-300, -0.5e-300};
  integer_grid grid(50, 4096);
  grid.resize(2, 1.0);
  const std::vector<std::int64_t> got = of_one_sample(grid, rows, 0.9e300);
  CHECK(static_cast<double>(got[0]) * grid.unit() == Approx(0.9));
  CHECK(static_cast<double>(got[1]) * grid.unit() == Approx(-0.45));
}

TEST_CASE("integer_grid: a number that no clipped sample can hold adds nothing") {
  // As when a source overflows on its way to a finite number: the sum stays within its bound all the same.
  integer_grid grid(30, 16);
  grid.resize(6, 1.0);
  const double infinite = std::numeric_limits<double>::infinity();
  const std::vector<std::int64_t> got =
      of_one_sample(grid, {infinite, -infinite, std::numeric_limits<double>::quiet_NaN(), 1e300, 2.1, 0.5}, 1.0);
  CHECK(got[0] == 0);
  CHECK(got[1] == 0);
  CHECK(got[2] == 0);
  CHECK(got[3] == 0);
  CHECK(got[4] == 0); // 2 is the power of two above the bound: the what is clipped lies below
  CHECK(static_cast<double>(got[5]) * grid.unit() == Approx(0.5));
}

TEST_CASE("integer_grid: settings whose sum could overflow are refused") {
  const auto resize = [](int bits, double units, double bound) {
    integer_grid grid(bits, units);
    grid.resize(4, bound);
  };
  CHECK_NOTHROW(resize(36, 0x1p26, 1.0));
  CHECK_THROWS_AS(resize(37, 0x1p26, 1.0), invalid_argument);
  CHECK_THROWS_WITH(resize(40, 16777216, 1.0),
                    "integer_grid: fraction_bits 40 with max_units 16777216 could overflow; keep fraction_bits + "
                    "log2(max_units) within 62");
  CHECK_NOTHROW(resize(62, 1, 1.0));
  CHECK_THROWS_AS(resize(63, 1, 1.0), invalid_argument);
  CHECK_THROWS_AS(resize(0, 16, 1.0), invalid_argument);
  CHECK_THROWS_AS(resize(-5, 16, 1.0), invalid_argument);
  CHECK_THROWS_AS(resize(20, 0.5, 1.0), invalid_argument);
  CHECK_THROWS_AS(resize(20, std::numeric_limits<double>::quiet_NaN(), 1.0), invalid_argument);
  CHECK_THROWS_AS(resize(20, std::numeric_limits<double>::infinity(), 1.0), invalid_argument);
}

TEST_CASE("integer_grid: a bound that is no positive number, or too small for a unit, is refused") {
  for (const double bound :
       {0.0, -1.0, std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity(), 1e-305, 5e-324}) {
    integer_grid grid;
    CHECK_THROWS_AS(grid.resize(4, bound), invalid_argument);
  }
  integer_grid grid;
  CHECK_THROWS_WITH(grid.resize(4, -1), "integer_grid: the clipper's bound -1 is not a positive number");
  CHECK_THROWS_WITH(grid.resize(4, 1e-305),
                    "integer_grid: the clipper's bound 1e-305 is too small for 36 fraction_bits");
}

TEST_CASE("integer_grid: with as many full samples as declared nothing overflows") {
  integer_grid grid(58, 16);
  grid.resize(1, 0.999);
  workspace w;
  const std::vector<double> rows(16, -0.999);
  const std::vector<double> factors(16, 1.0);
  grid.add(0, materialized<double>(rows.data(), 16, 1), {0, 16}, factors.data(), w);
  CHECK(static_cast<double>(*grid.data()) * grid.unit() == Approx(-16 * 0.999));
}

TEST_CASE("integer_grid: with more than declared the sum wraps around, as an error would depend on the data") {
  integer_grid grid(62, 1);
  grid.resize(1, 1.0); // the unit is 2^-61
  workspace w;
  const std::vector<double> rows(5, 1.0);
  const std::vector<double> factors(5, 1.0);
  grid.add(0, materialized<double>(rows.data(), 1, 1), {0, 1}, factors.data(), w);
  const auto one = static_cast<std::uint64_t>(*grid.data());
  REQUIRE(one > (std::uint64_t{1} << 60)); // so that five of them do not fit
  grid.add(0, materialized<double>(rows.data(), 5, 1), {1, 4}, factors.data(), w);
  CHECK(static_cast<std::uint64_t>(*grid.data()) == 5 * one);
}

TEST_CASE("integer_grid: resizing clears the sum, and the description holds both settings") {
  integer_grid grid(20, 1000);
  grid.resize(1, 1.0);
  of_one_sample(grid, {0.5}, 1.0);
  CHECK(*grid.data() != 0);
  grid.resize(1, 1.0);
  CHECK(*grid.data() == 0);
  CHECK(grid.describe() == "integer_grid(fraction_bits=20, max_units=1000)");
}
