// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/gradients/linear_weight.hpp"

#include "dpopt/gradients/materialized.hpp"
#include "support/catch.hpp"
#include "support/random_numbers.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

using namespace dpopt;
using test::random_numbers;

namespace {

// A layer's inputs and output gradients, and the outer products that linear_weight never writes out.
template <class U>
struct layer {
  isize batch, inputs, outputs;
  std::vector<U> a = random_numbers<U>(batch * inputs, 1);
  std::vector<U> e = random_numbers<U>(batch * outputs, 2);

  [[nodiscard]] linear_weight<U> source() const { return {a.data(), e.data(), batch, inputs, outputs}; }
  [[nodiscard]] std::vector<double> written_out() const {
    std::vector<double> rows;
    for (isize i = 0; i < batch; ++i)
      for (isize o = 0; o < outputs; ++o)
        for (isize k = 0; k < inputs; ++k)
          rows.push_back(static_cast<double>(e[static_cast<std::size_t>(i * outputs + o)]) *
                         static_cast<double>(a[static_cast<std::size_t>(i * inputs + k)]));
    return rows;
  }
};

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

} // namespace

TEMPLATE_TEST_CASE("linear_weight: norms and sums are those of the outer products", "", float, double) {
  using U = TestType;
  for (const auto& [inputs, outputs] : {std::pair<isize, isize>{1, 1}, {1, 9}, {9, 1}, {5, 3}, {40, 17}}) {
    const layer<U> l{.batch = 4, .inputs = inputs, .outputs = outputs};
    const std::vector<double> rows = l.written_out();
    const materialized<double> oracle(rows.data(), 4, inputs * outputs);
    const linear_weight<U> s = l.source();
    CHECK(s.batch() == 4);
    CHECK(s.size() == inputs * outputs);
    CHECK(s.block() >= 1);
    const std::vector<double> factors = {1, 0, 0.125, -0.7};
    const std::vector<double> expected = sum_of<double>(oracle, factors);
    const std::vector<double> in_double = sum_of<double>(s, factors);
    const std::vector<float> in_float = sum_of<float>(s, factors);
    for (std::size_t k = 0; k < expected.size(); ++k) {
      CHECK(in_double[k] == Approx(expected[k]).epsilon(1e-12).margin(1e-14));
      CHECK(in_float[k] == Approx(expected[k]).epsilon(1e-5).margin(1e-6));
    }
    const std::vector<double> squares = squared_norms_of(s);
    const std::vector<double> squares_expected = squared_norms_of(oracle);
    for (std::size_t i = 0; i < 4; ++i) CHECK(squares[i] == Approx(squares_expected[i]).epsilon(1e-12));
  }
}

TEST_CASE("linear_weight: the weight is row-major: an output's row is as long as the input") {
  const std::vector<double> a = {1, 10, 100};
  const std::vector<double> e = {2, 3};
  const linear_weight<double> s{a.data(), e.data(), 1, 3, 2};
  const std::vector<double> sum = sum_of<double>(s, {1});
  const std::vector<double> expected = {2, 20, 200, 3, 30, 300};
  for (std::size_t k = 0; k < 6; ++k) CHECK(sum[k] == Approx(expected[k]));
}

TEST_CASE("linear_weight: asking in ranges gives the same bits as asking at once") {
  const layer<float> l{.batch = 7, .inputs = 6, .outputs = 5};
  const linear_weight<float> s = l.source();
  const std::vector<double> factors = random_numbers<double>(7, 3);
  const std::vector<float> at_once = sum_of<float>(s, factors);
  const std::vector<double> squares_at_once = squared_norms_of(s);
  for (const isize step : {1, 2, 3, 7}) {
    workspace w;
    std::vector<float> out(30, 0.0F);
    std::vector<double> squares(7, 0.0);
    for (isize first = 0; first < 7; first += step) {
      const samples range{first, std::min(step, 7 - first)};
      s.add_squared_norms(range, squares.data() + first, w);
      s.add_weighted_sum(range, factors.data() + first, out.data(), w);
    }
    CHECK(out == at_once);
    CHECK(squares == squares_at_once);
  }
}

TEST_CASE("linear_weight: factor 0 skips a sample whose numbers are not finite, and its norm says so") {
  const double bad = GENERATE(std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity());
  layer<double> l{.batch = 3, .inputs = 4, .outputs = 2};
  const std::vector<double> good = l.written_out();
  SECTION("in the input") { l.a[4 + 1] = bad; }
  SECTION("in the output gradient") { l.e[2] = bad; }
  SECTION("in the input, where the output gradient is zero: 0 x infinity is no number") {
    l.a[4] = bad;
    l.e[2] = l.e[3] = 0;
  }
  const std::vector<double> squares = squared_norms_of(l.source());
  CHECK(std::isfinite(squares[0]));
  CHECK_FALSE(std::isfinite(squares[1]));
  CHECK(std::isfinite(squares[2]));
  const std::vector<double> sum = sum_of<double>(l.source(), {1, 0, 1});
  for (std::size_t k = 0; k < 8; ++k) CHECK(sum[k] == Approx(good[k] + good[16 + k]).margin(1e-14));
}

TEMPLATE_TEST_CASE("linear_weight: no sample adds more than its bound, rounding included", "", float, double) {
  using Out = TestType;
  for (int seed = 0; seed < 50; ++seed) {
    layer<float> l{.batch = 1, .inputs = 8, .outputs = 6};
    l.a = random_numbers<float>(8, seed);
    l.e = random_numbers<float>(6, seed + 100);
    const double n = std::sqrt(squared_norms_of(l.source())[0]);
    CHECK(norm(sum_of<Out>(l.source(), {0.1 / n})) <= 0.1L);
    CHECK(norm(sum_of<Out>(l.source(), {1})) <= static_cast<long double>(n));
  }
}

TEMPLATE_TEST_CASE("linear_weight: factors from 1e-30 to 1e30 neither overflow nor vanish", "", float, double) {
  using Out = TestType;
  for (double of_input = 1e-30; of_input < 2e30; of_input *= 1e5)
    for (double of_output = 1e-30; of_output < 2e30; of_output *= 1e5) {
      layer<float> l{.batch = 1, .inputs = 8, .outputs = 6};
      for (float& x : l.a) x *= static_cast<float>(of_input);
      for (float& x : l.e) x *= static_cast<float>(of_output);
      const double n = std::sqrt(squared_norms_of(l.source())[0]);
      CHECK(n == Approx(static_cast<double>(norm(l.a) * norm(l.e))).epsilon(1e-12));
      if (n < 1e-30) continue; // what is below the range of float has the right to vanish
      const long double expected = std::min(1.0, n);
      const long double added = norm(sum_of<Out>(l.source(), {n > 1 ? 1 / n : 1.0}));
      CHECK(added <= expected);
      CHECK(added >= expected * (1 - 1e-5L));
    }
}

TEST_CASE("linear_weight: doubles beyond the range of float add their clipped share to a sum in float") {
  const std::vector<double> a = {1e70, 0};
  const std::vector<double> e = {-1e70, 1e70};
  const std::vector<float> sum = sum_of<float>(linear_weight<double>{a.data(), e.data(), 1, 2, 2}, {1e-140});
  CHECK(sum[0] == Approx(-1));
  CHECK(sum[1] == 0);
  CHECK(sum[2] == Approx(1));
  CHECK(sum[3] == 0);
}

TEST_CASE(
    "linear_weight: rows with gaps, from the last to the first, or one input for all have the bits of dense rows") {
  layer<float> l{.batch = 4, .inputs = 6, .outputs = 5};
  const std::vector<float> wide_a = random_numbers<float>(4 * 9, 5), wide_e = random_numbers<float>(4 * 7, 6);
  struct row {
    isize first_input, input_stride, first_output, output_stride;
  };
  for (const row& r : {row{0, 9, 0, 7}, row{27, -9, 0, 5}, row{2, 0, 21, -7}}) {
    for (isize i = 0; i < 4; ++i) {
      const auto a = wide_a.begin() + r.first_input + i * r.input_stride;
      const auto e = wide_e.begin() + r.first_output + i * r.output_stride;
      std::copy_n(a, 6, l.a.begin() + i * 6);
      std::copy_n(e, 5, l.e.begin() + i * 5);
    }
    const linear_weight<float> s{
        wide_a.data() + r.first_input, wide_e.data() + r.first_output, 4, 6, 5, r.input_stride, r.output_stride};
    CHECK(s.problem().empty());
    CHECK(squared_norms_of(s) == squared_norms_of(l.source()));
    CHECK(sum_of<float>(s, {1, 0, 0.25, -2}) == sum_of<float>(l.source(), {1, 0, 0.25, -2}));
    CHECK(sum_of<double>(s, {1, 0, 0.25, -2}) == sum_of<double>(l.source(), {1, 0, 0.25, -2}));
    std::vector<double> part(20), expected(20);
    s.copy_sample(2, 7, 20, 1, part.data());
    l.source().copy_sample(2, 7, 20, 1, expected.data());
    CHECK(part == expected);
  }
}

TEST_CASE("linear_weight: strides that let samples share numbers are a problem") {
  const auto says = [](isize input_stride, isize output_stride) {
    return linear_weight<float>{nullptr, nullptr, 4, 6, 5, input_stride, output_stride}.problem();
  };
  CHECK(says(5, 5) == "linear_weight: input_stride lets samples share numbers; give the distance in elements, or leave "
                      "it out for dense data");
  CHECK_THAT(says(6, 4), contains_text("linear_weight: output_stride lets"));
  CHECK_THAT(says(6, 0), contains_text("output_stride"));
  CHECK_THAT((linear_weight<float>{nullptr, nullptr, -1, 6, 5}.problem()), contains_text("negative"));
}

TEST_CASE("linear_weight: no samples and a layer of one number are valid") {
  const linear_weight<double> none{nullptr, nullptr, 0, 3, 2};
  CHECK(sum_of<double>(none, {}) == std::vector<double>(6, 0.0));
  CHECK(squared_norms_of(none).empty());
  CHECK(none.block() >= 1);
  const double a = 3;
  const double e = -2;
  const linear_weight<double> one{&a, &e, 1, 1, 1};
  CHECK(sum_of<double>(one, {1})[0] == Approx(-6));
  CHECK(squared_norms_of(one)[0] == Approx(36));
}

TEST_CASE("linear_weight: copy_sample gives any part of one sample, scaled, across rows") {
  const layer<double> l{.batch = 3, .inputs = 4, .outputs = 3};
  const std::vector<double> rows = l.written_out();
  for (const isize first : {0, 3, 5, 11})
    for (isize count = 0; first + count <= 12; ++count) {
      std::vector<double> part(static_cast<std::size_t>(count));
      l.source().copy_sample(2, first, count, 4.0, part.data());
      for (isize k = 0; k < count; ++k)
        CHECK(part[static_cast<std::size_t>(k)] == Approx(4 * rows[static_cast<std::size_t>(24 + first + k)]));
    }
}
