// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/gradients/materialized.hpp"

#include "support/catch.hpp"
#include "support/random_numbers.hpp"

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

using namespace dpopt;
using test::random_numbers;

namespace {

constexpr double nan_value = std::numeric_limits<double>::quiet_NaN();
constexpr double infinite = std::numeric_limits<double>::infinity();

// sum_i factors[i] g_i by its definition, in long double.
template <class U>
std::vector<long double> weighted_sum(const materialized<U>& s, const std::vector<double>& factors) {
  std::vector<long double> sum(static_cast<std::size_t>(s.size()), 0);
  for (isize i = 0; i < s.batch(); ++i)
    for (isize k = 0; k < s.size(); ++k)
      sum[static_cast<std::size_t>(k)] += static_cast<long double>(factors[static_cast<std::size_t>(i)]) *
                                          static_cast<long double>(s.rows[i * s.stride + k]);
  return sum;
}

template <class Out, class S>
std::vector<Out> sum_of(const S& s, const std::vector<double>& factors) {
  workspace w;
  std::vector<Out> out(static_cast<std::size_t>(s.size()), Out(0));
  s.add_weighted_sum({0, s.batch()}, factors.data(), out.data(), w);
  return out;
}

template <class S>
std::vector<double> squared_norms_of(const S& s) {
  workspace w;
  std::vector<double> out(static_cast<std::size_t>(s.batch()), 0.0);
  s.add_squared_norms({0, s.batch()}, out.data(), w);
  return out;
}

template <class V>
long double norm(const std::vector<V>& x) {
  long double squares = 0;
  for (const V v : x) squares += static_cast<long double>(v) * static_cast<long double>(v);
  return std::sqrt(squares);
}

// Half the bits of a float, as half precision storage types have.
struct bfloat16 {
  std::uint16_t bits = 0;
  operator float() const { return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16); } // NOLINT
};

} // namespace

TEMPLATE_TEST_CASE("materialized: norms and sums are those of the definition", "", float, double) {
  using U = TestType;
  for (const isize size : {1, 7, 8, 9, 64, 256, 257, 1000}) {
    constexpr isize batch = 5;
    const std::vector<U> rows = random_numbers<U>(batch * size, 1);
    const std::vector<double> factors = {1, 0.25, 0.1, 1e-3, 0.9};
    const materialized<U> s(rows.data(), batch, size);
    CHECK(s.batch() == batch);
    CHECK(s.size() == size);
    CHECK(s.block() >= 1);
    const std::vector<long double> exact = weighted_sum(s, factors);
    const std::vector<double> in_double = sum_of<double>(s, factors);
    const std::vector<float> in_float = sum_of<float>(s, factors);
    for (std::size_t k = 0; k < exact.size(); ++k) {
      CHECK(in_double[k] == Approx(static_cast<double>(exact[k])).epsilon(1e-12).margin(1e-13));
      CHECK(in_float[k] == Approx(static_cast<double>(exact[k])).epsilon(1e-5).margin(1e-6));
    }
    const std::vector<double> squares = squared_norms_of(s);
    for (std::size_t i = 0; i < squares.size(); ++i) {
      const std::vector<U> row(rows.begin() + static_cast<isize>(i) * size,
                               rows.begin() + static_cast<isize>(i + 1) * size);
      const long double exact_square = norm(row) * norm(row);
      CHECK(squares[i] >= static_cast<double>(exact_square) * (1 - 1e-18));
      CHECK(squares[i] <= static_cast<double>(exact_square) * (1 + 1e-12));
    }
  }
}

TEST_CASE("materialized: both questions add to what is there") {
  const std::vector<double> rows = {3, 4, 6, 8};
  const materialized<double> s(rows.data(), 2, 2);
  workspace w;
  std::vector<double> squares = {100, 200};
  s.add_squared_norms({0, 2}, squares.data(), w);
  CHECK(squares[0] == Approx(125));
  CHECK(squares[1] == Approx(300));
  std::vector<double> out = {10, 20};
  const std::vector<double> factors = {1, 0.5};
  s.add_weighted_sum({0, 2}, factors.data(), out.data(), w);
  CHECK(out[0] == Approx(16));
  CHECK(out[1] == Approx(28));
}

TEST_CASE("materialized: rows may lie further apart than they are long") {
  const std::vector<float> rows = {1, 2, 999, 3, 4, 999};
  const materialized<float> s(rows.data(), 2, 2, 3);
  CHECK(squared_norms_of(s)[0] == Approx(5));
  CHECK(squared_norms_of(s)[1] == Approx(25));
  const std::vector<double> sum = sum_of<double>(s, {1, 1});
  CHECK(sum[0] == Approx(4));
  CHECK(sum[1] == Approx(6));
  double copied = 0;
  s.copy_sample(1, 1, 1, 0.5, &copied);
  CHECK(copied == 2);
}

TEST_CASE("materialized: rows that share numbers are refused, those that lie apart either way are not") {
  const std::vector<float> numbers(12, 1.0F);
  const auto problem = [&](isize batch, isize stride) {
    return materialized<float>(numbers.data() + 6, batch, 4, stride).problem();
  };
  CHECK(problem(2, 4).empty());
  CHECK(problem(2, -6).empty());
  CHECK(problem(1, 0).empty());
  for (const isize stride : {0, 1, 3, -3}) CHECK(problem(2, stride).find("row_stride") != std::string::npos);
}

TEST_CASE("materialized: asking in ranges gives the same bits as asking at once") {
  constexpr isize batch = 11;
  for (const isize size : {37, 300}) { // short rows are summed another way
    const std::vector<float> rows = random_numbers<float>(batch * size, 2);
    const std::vector<double> factors = random_numbers<double>(batch, 3);
    const materialized<float> s(rows.data(), batch, size);
    const std::vector<float> at_once = sum_of<float>(s, factors);
    const std::vector<double> squares_at_once = squared_norms_of(s);
    for (const isize step : {1, 2, 3, 7, 11}) {
      workspace w;
      std::vector<float> out(static_cast<std::size_t>(size), 0.0F);
      std::vector<double> squares(static_cast<std::size_t>(batch), 0.0);
      for (isize first = 0; first < batch; first += step) {
        const samples range{first, std::min(step, batch - first)};
        s.add_squared_norms(range, squares.data() + first, w);
        s.add_weighted_sum(range, factors.data() + first, out.data(), w);
      }
      CHECK(out == at_once);
      CHECK(squares == squares_at_once);
    }
  }
}

TEST_CASE("materialized: factor 0 skips a sample whose numbers are not finite, and its norm says so") {
  for (const double bad : {nan_value, infinite, -infinite})
    for (const isize size : {20, 300}) {
      std::vector<double> rows = random_numbers<double>(3 * size, 4);
      rows[static_cast<std::size_t>(size + 13)] = bad; // of sample 1
      const materialized<double> s(rows.data(), 3, size);
      const std::vector<double> squares = squared_norms_of(s);
      CHECK(std::isfinite(squares[0]));
      CHECK_FALSE(std::isfinite(squares[1]));
      CHECK(std::isfinite(squares[2]));
      const std::vector<double> sum = sum_of<double>(s, {1, 0, 1});
      for (std::size_t k = 0; k < sum.size(); ++k)
        CHECK(sum[k] == Approx(rows[k] + rows[2 * sum.size() + k]).margin(1e-14));
    }
}

// Clips one sample to norm C as the optimizer does and returns the norm of what was added to the sum.
template <class Out, class U>
long double clipped_norm(const std::vector<U>& row, double bound) {
  const materialized<U> s(row.data(), 1, std::ssize(row));
  const double n = std::sqrt(squared_norms_of(s)[0]);
  return norm(sum_of<Out>(s, {n > bound ? bound / n : 1.0}));
}

TEMPLATE_TEST_CASE("materialized: no sample adds more than its bound, rounding included", "", float, double) {
  using Out = TestType;
  for (int seed = 0; seed < 50; ++seed)
    for (const isize size : {1, 3, 100}) {
      CHECK(clipped_norm<Out>(random_numbers<float>(size, seed), 0.1) <= 0.1L);
      CHECK(clipped_norm<Out>(random_numbers<double>(size, seed), 0.1) <= 0.1L);
    }
}

TEMPLATE_TEST_CASE("materialized: numbers from 1e-30 to 1e30 neither overflow nor vanish", "", float, double) {
  using Out = TestType;
  for (double magnitude = 1e-30; magnitude < 2e30; magnitude *= 10) {
    std::vector<float> row = random_numbers<float>(50, 5);
    for (float& x : row) x *= static_cast<float>(magnitude);
    const long double exact = norm(row);
    const double square = squared_norms_of(materialized<float>(row.data(), 1, 50))[0];
    CHECK(square >= static_cast<double>(exact * exact) * (1 - 1e-18));
    CHECK(square == Approx(static_cast<double>(exact * exact)).epsilon(1e-12));
    const long double added = clipped_norm<Out>(row, 1.0);
    const long double expected = std::min(1.0L, exact);
    CHECK(added <= expected);
    CHECK(added >= expected * (1 - 1e-5L));
  }
}

TEST_CASE("materialized: the largest floats clip to a bound whose factor is a subnormal float") {
  const std::vector<float> row(10000, 3e38F); // norm 3e40
  for (const double bound : {1.0, 0.1, 1e-3, 2.5e-5})
    CHECK(clipped_norm<float>(row, bound) <= static_cast<long double>(bound));
  CHECK(clipped_norm<float>(row, 1.0) > 0.99L);
}

TEST_CASE("materialized: doubles beyond the range of float add their clipped share to a sum in float") {
  const std::vector<double> row = {1e100, -1e100, 0, 1e60};
  const std::vector<float> sum = sum_of<float>(materialized<double>(row.data(), 1, 4), {1e-100});
  CHECK(sum[0] == Approx(1));
  CHECK(sum[1] == Approx(-1));
  CHECK(sum[2] == 0);
  CHECK(sum[3] <= 1.001e-40F);
  CHECK(clipped_norm<float>(row, 0.5) <= 0.5L);
  CHECK(clipped_norm<float>(row, 0.5) > 0.4999L);
}

TEST_CASE("materialized: a factor beyond the range of float stays finite, and times 0 is 0") {
  const std::vector<float> row = {0, 1e-20F};
  const std::vector<float> sum = sum_of<float>(materialized<float>(row.data(), 1, 2), {1e39});
  CHECK(sum[0] == 0);
  CHECK(std::isfinite(sum[1]));
  CHECK(sum[1] <= 1e19F);
}

TEST_CASE("materialized: storage types of 16 bits are read as they are") {
  const std::vector<bfloat16> rows = {{0x3f80}, {0x4000}, {0xc040}, {0x0000}}; // 1, 2, -3, 0
  const materialized<bfloat16> s(rows.data(), 2, 2);
  CHECK(squared_norms_of(s)[0] == Approx(5));
  CHECK(squared_norms_of(s)[1] == Approx(9));
  const std::vector<float> sum = sum_of<float>(s, {1, 2});
  CHECK(sum[0] == Approx(-5));
  CHECK(sum[1] == Approx(2));
}

TEST_CASE("materialized: no samples, scalars and parameters without elements are valid") {
  workspace w;
  SECTION("no samples") {
    const materialized<double> s(nullptr, 0, 3);
    CHECK(sum_of<double>(s, {}) == std::vector<double>{0, 0, 0});
    CHECK(squared_norms_of(s).empty());
    CHECK(s.block() >= 1);
  }
  SECTION("a scalar has one norm a sample") {
    const std::vector<double> rows = {3, -4};
    const materialized<double> s(rows.data(), 2, 1);
    CHECK(squared_norms_of(s)[0] == Approx(9));
    CHECK(squared_norms_of(s)[1] == Approx(16));
    CHECK(sum_of<double>(s, {1, 0.5})[0] == Approx(1));
  }
  SECTION("no elements") {
    const double nothing = 0;
    const materialized<double> s(&nothing, 2, 0);
    CHECK(squared_norms_of(s) == std::vector<double>{0, 0});
    CHECK(sum_of<double>(s, {1, 1}).empty());
    CHECK(s.block() >= 1);
  }
}

TEST_CASE("materialized: copy_sample gives any part of one sample, scaled") {
  const std::vector<float> rows = random_numbers<float>(4 * 10, 6);
  const materialized<float> s(rows.data(), 4, 10);
  std::vector<double> part(3);
  s.copy_sample(2, 5, 3, -2.0, part.data());
  for (std::size_t k = 0; k < 3; ++k) CHECK(part[k] == -2.0 * static_cast<double>(rows[20 + 5 + k]));
}

TEST_CASE("materialized: a block fits half a megabyte of cache whatever the parameter's size") {
  for (const isize size : {1, 100, 10000, 1000000}) {
    const materialized<float> s(nullptr, 1000, size);
    CHECK((s.block() == 1 || s.block() * size * 4 <= 512 * 1024));
    CHECK(s.block() >= 1);
  }
}
