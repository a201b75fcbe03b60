// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/gradients/linear_sequence.hpp"

#include "support/random_numbers.hpp"
#include "support/source_conformance.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <utility>
#include <vector>

using namespace dpopt;
using namespace dpopt::test;

namespace {

template <class U>
struct layer {
  isize batch, positions, inputs, outputs;
  bool time_major = false;
  std::vector<U> a = random_numbers<U>(batch * positions * inputs, 1);
  std::vector<U> e = random_numbers<U>(batch * positions * outputs, 2);

  [[nodiscard]] linear_sequence<U> source() const {
    linear_sequence<U> s{a.data(), e.data(), batch, positions, inputs, outputs};
    if (time_major) {
      s.input_sample_stride = inputs, s.input_position_stride = batch * inputs;
      s.output_sample_stride = outputs, s.output_position_stride = batch * outputs;
    }
    return s;
  }
  [[nodiscard]] std::size_t at(isize i, isize t, isize width, isize k) const {
    return static_cast<std::size_t>((time_major ? t * batch + i : i * positions + t) * width + k);
  }
  [[nodiscard]] written_out rows() const {
    written_out out(static_cast<std::size_t>(batch));
    for (isize i = 0; i < batch; ++i)
      for (isize o = 0; o < outputs; ++o)
        for (isize k = 0; k < inputs; ++k) {
          long double sum = 0;
          for (isize t = 0; t < positions; ++t)
            sum += static_cast<long double>(e[at(i, t, outputs, o)]) * static_cast<long double>(a[at(i, t, inputs, k)]);
          out[static_cast<std::size_t>(i)].push_back(sum);
        }
    return out;
  }
};

struct shape {
  isize positions, inputs, outputs;
};

} // namespace

TEST_CASE("linear_sequence: norms and sums are those of the sums of outer products, in double") {
  for (const shape s : {shape{1, 5, 3}, {3, 1, 1}, {4, 9, 2}, {4, 2, 9}, {6, 40, 17}, {130, 3, 35}})
    for (const bool time_major : {false, true}) {
      const layer<double> l{
          .batch = 4, .positions = s.positions, .inputs = s.inputs, .outputs = s.outputs, .time_major = time_major};
      source_conforms(l.source(), l.rows(), 1e-9); // of one number, whose positions may cancel
    }
}

TEST_CASE(
    "linear_sequence: windows over a series, gaps and inputs that all samples share have the bits of dense data") {
  const std::vector<float> series = random_numbers<float>(3 * 20, 5), wide = random_numbers<float>(3 * 40, 6);
  struct row {
    isize input_sample, input_position, output_sample, output_position;
  };
  for (const row& r : {row{20, 1, 40, 8}, row{20, 4, -40, 8}, row{0, 3, 7, 21}}) {
    layer<float> l{.batch = 3, .positions = 5, .inputs = 4, .outputs = 7};
    const float* const last = wide.data() + (r.output_sample < 0 ? 80 : 0);
    for (isize i = 0; i < 3; ++i)
      for (isize t = 0; t < 5; ++t) {
        std::copy_n(series.data() + i * r.input_sample + t * r.input_position, 4, l.a.begin() + (i * 5 + t) * 4);
        std::copy_n(last + i * r.output_sample + t * r.output_position, 7, l.e.begin() + (i * 5 + t) * 7);
      }
    const linear_sequence<float> s{
        series.data(), last, 3, 5, 4, 7, r.input_sample, r.input_position, r.output_sample, r.output_position};
    CHECK(s.problem().empty());
    CHECK(squared_norms_of(s) == squared_norms_of(l.source()));
    CHECK(sum_of<float>(s, {1, 0, -0.5}) == sum_of<float>(l.source(), {1, 0, -0.5}));
    std::vector<double> part(20), expected(20);
    s.copy_sample(1, 3, 20, 1, part.data());
    l.source().copy_sample(1, 3, 20, 1, expected.data());
    CHECK(part == expected);
  }
  CHECK_THAT((linear_sequence<float>{nullptr, nullptr, 3, 5, 4, 7, 19, 4}.problem()),
             contains_text("linear_sequence: the input strides let samples share numbers"));
  CHECK_THAT((linear_sequence<float>{nullptr, nullptr, 3, 5, 4, 7, 20, 4, 0, 7}.problem()),
             contains_text("linear_sequence: the output strides let samples share numbers"));
}

TEST_CASE("linear_sequence: in float the norm bounds what the rows add, and by little more than it must") {
  for (const shape s : {shape{1, 5, 3}, {2, 9, 12}, {6, 40, 17}, {50, 4, 6}}) {
    const layer<float> l{.batch = 5, .positions = s.positions, .inputs = s.inputs, .outputs = s.outputs};
    const written_out rows = l.rows();
    const std::vector<double> squares = squared_norms_of(l.source());
    for (std::size_t i = 0; i < rows.size(); ++i) {
      const long double exact = norm_of(rows[i]);
      CHECK(std::sqrt(squares[i]) >= exact);
      CHECK(std::sqrt(squares[i]) <= exact * (1 + 1e-4L));
      std::vector<double> only(rows.size(), 0.0);
      for (const double factor : {1.0, 0.1 / std::sqrt(squares[i])}) {
        only[i] = factor;
        CHECK(norm_of(sum_of<float>(l.source(), only)) <= static_cast<long double>(factor * std::sqrt(squares[i])));
        CHECK(norm_of(sum_of<float>(l.source(), only)) >= 0.9999L * factor * exact);
      }
    }
    const std::vector<float> sum = sum_of<float>(l.source(), {1, 0, -0.5, 2, 1});
    for (std::size_t k = 0; k < sum.size(); ++k) {
      const long double expected = rows[0][k] - 0.5L * rows[2][k] + 2 * rows[3][k] + rows[4][k];
      CHECK(sum[k] == Approx(static_cast<double>(expected)).epsilon(1e-4).margin(1e-5));
    }
  }
}

TEST_CASE("linear_sequence: both ways to the norm agree") {
  const layer<float> l{.batch = 3, .positions = 70, .inputs = 30, .outputs = 200};
  workspace w;
  for (isize i = 0; i < 3; ++i)
    CHECK(l.source().squared_norm_of(i, true, w) == Approx(l.source().squared_norm_of(i, false, w)).epsilon(1e-9));
}

TEST_CASE("linear_sequence: positions that cancel add no more than the norm says") {
  // Two alike positions with opposite output gradients, but for a part in 1e4 (1e7): |G| is that part of each. A Gram
  // matrix in float would lose all of it, and one in double the latter.
  for (const double left : {1e-4, 1e-7})
    for (int seed = 0; seed < 10; ++seed)
      for (const bool by_gram : {true, false}) {
        layer<float> l{.batch = 1, .positions = 2, .inputs = 64, .outputs = 48};
        l.a = random_numbers<float>(128, seed);
        l.e = random_numbers<float>(96, seed + 100);
        for (std::size_t k = 0; k < 64; ++k) l.a[64 + k] = l.a[k];
        for (std::size_t k = 0; k < 48; ++k) l.e[48 + k] = -l.e[k] * static_cast<float>(1 + left);
        workspace w;
        const double n = std::sqrt(l.source().squared_norm_of(0, by_gram, w));
        CHECK(n >= norm_of(l.rows()[0]));
        CHECK(norm_of(sum_of<float>(l.source(), {1})) <= static_cast<long double>(n));
        CHECK(norm_of(sum_of<float>(l.source(), {1 / n})) <= 1.0L);
        if (left > 1e-5) CHECK(n <= 1.02 * static_cast<double>(norm_of(l.rows()[0])));
      }
}

TEST_CASE("linear_sequence: the rounding of rows that cancel exactly is within the norm") {
  // +x, +y, -x, -y, ...: the exact gradient is zero, what a running sum in float keeps of it is not.
  layer<float> l{.batch = 1, .positions = 64, .inputs = 20, .outputs = 20};
  for (std::size_t t = 0; t < 32; ++t)
    for (std::size_t k = 0; k < 20; ++k) {
      l.a[(32 + t) * 20 + k] = l.a[t * 20 + k];
      l.e[(32 + t) * 20 + k] = -l.e[t * 20 + k];
    }
  const double n = std::sqrt(squared_norms_of(l.source())[0]);
  const long double added = norm_of(sum_of<float>(l.source(), {1}));
  CHECK(added > 0); // or this tests nothing
  CHECK(added <= static_cast<long double>(n));
}

TEST_CASE("linear_sequence: factor 0 skips a sample whose numbers are not finite, and its norm says so") {
  for (const double bad : {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()})
    for (const bool in_input : {true, false})
      for (const isize positions : {1, 3, 40}) { // by Gram matrices, and not
        layer<double> l{.batch = 3, .positions = positions, .inputs = 6, .outputs = 8};
        const written_out good = l.rows();
        (in_input ? l.a[l.at(1, positions - 1, 6, 2)] : l.e[l.at(1, positions - 1, 8, 2)]) = bad;
        const std::vector<double> squares = squared_norms_of(l.source());
        CHECK(std::isfinite(squares[0]));
        CHECK_FALSE(std::isfinite(squares[1]));
        CHECK(std::isfinite(squares[2]));
        const std::vector<double> sum = sum_of<double>(l.source(), {1, 0, 1});
        for (std::size_t k = 0; k < sum.size(); ++k)
          CHECK(sum[k] == Approx(static_cast<double>(good[0][k] + good[2][k])).margin(1e-12));
      }
}

TEST_CASE("linear_sequence: padding has output gradients of zero; no samples, positions or inputs are valid") {
  layer<double> l{.batch = 1, .positions = 3, .inputs = 4, .outputs = 2};
  for (std::size_t k = 2; k < 6; ++k) l.e[k] = 0;
  const layer<double> first{.batch = 1,
                            .positions = 1,
                            .inputs = 4,
                            .outputs = 2,
                            .a = {l.a.begin(), l.a.begin() + 4},
                            .e = {l.e.begin(), l.e.begin() + 2}};
  CHECK(squared_norms_of(l.source())[0] == Approx(squared_norms_of(first.source())[0]));
  CHECK(sum_of<double>(l.source(), {1}) == sum_of<double>(first.source(), {1}));
  CHECK(squared_norms_of(linear_sequence<float>{nullptr, nullptr, 0, 3, 2, 2}).empty());
  CHECK(squared_norms_of(linear_sequence<float>{nullptr, nullptr, 1, 0, 2, 2}) == std::vector<double>(1, 0.0));
  CHECK(sum_of<float>(linear_sequence<float>{nullptr, nullptr, 1, 0, 1, 2}, {1}) == std::vector<float>(2, 0.0F));
  const float nothing = 0;
  CHECK(squared_norms_of(linear_sequence<float>{&nothing, &nothing, 1, 1, 0, 1}) == std::vector<double>(1, 0.0));
  CHECK(linear_sequence<float>{}.problem().empty());
  CHECK_FALSE(linear_sequence<float>{&nothing, &nothing, 1, -1, 1, 1}.problem().empty());
}

TEST_CASE("linear_sequence: doubles beyond the range of float add their clipped share to a sum in float") {
  const std::vector<double> a = {1e70, 2e70}, e = {3e70, -1e70};
  const std::vector<float> sum = sum_of<float>(linear_sequence<double>{a.data(), e.data(), 1, 2, 1, 1}, {1e-140});
  CHECK(sum[0] == Approx(1));
}

TEST_CASE("linear_sequence: is the derivative of the loss, sample by sample") {
  // loss_i = sum over t, o of sin((W x_t)_o), whose output gradient is cos((W x_t)_o): central differences in double.
  layer<double> l{.batch = 2, .positions = 3, .inputs = 4, .outputs = 2};
  std::vector<double> w = random_numbers<double>(8, 9);
  const auto output = [&](isize i, isize t, isize o) {
    double y = 0;
    for (isize k = 0; k < 4; ++k) y += w[static_cast<std::size_t>(o * 4 + k)] * l.a[l.at(i, t, 4, k)];
    return y;
  };
  const auto loss = [&](isize i) {
    double sum = 0;
    for (isize t = 0; t < 3; ++t)
      for (isize o = 0; o < 2; ++o) sum += std::sin(output(i, t, o));
    return sum;
  };
  for (isize i = 0; i < 2; ++i)
    for (isize t = 0; t < 3; ++t)
      for (isize o = 0; o < 2; ++o) l.e[l.at(i, t, 2, o)] = std::cos(output(i, t, o));
  for (isize i = 0; i < 2; ++i) {
    const std::vector<double> g = sum_of<double>(l.source(), {i == 0 ? 1.0 : 0.0, i == 1 ? 1.0 : 0.0});
    for (std::size_t k = 0; k < 8; ++k) {
      const double at = w[k], h = 1e-5;
      w[k] = at + h;
      const double above = loss(i);
      w[k] = at - h;
      const double below = loss(i);
      w[k] = at;
      CHECK(g[k] == Approx((above - below) / (2 * h)).epsilon(1e-7).margin(1e-9));
    }
  }
}
