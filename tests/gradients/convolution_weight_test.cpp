// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/gradients/convolution_weight.hpp"

#include "dpopt/gradients/bias.hpp"
#include "dpopt/gradients/half.hpp"
#include "dpopt/gradients/normalization_weight.hpp"
#include "dpopt/gradients/units.hpp"
#include "support/convolution_products.hpp"
#include "support/random_numbers.hpp"
#include "support/source_conformance.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <type_traits>
#include <vector>

using namespace dpopt;
using namespace dpopt::test;

namespace {

template <class S, class U>
written_out by_definition(const S& s, const std::vector<U>& a, const std::vector<U>& e) {
  written_out rows(static_cast<std::size_t>(s.batch()), std::vector<long double>(static_cast<std::size_t>(s.size())));
  for (isize i = 0; i < s.batch(); ++i)
    for_each_product(s.geometry, [&](isize o, isize t, isize weight, isize input) {
      const isize at = i * s.gradient_stride + o * s.geometry.output_positions() + t;
      rows[static_cast<std::size_t>(i)][static_cast<std::size_t>(weight)] +=
          static_cast<long double>(e[static_cast<std::size_t>(at)]) *
          static_cast<long double>(a[static_cast<std::size_t>(i * s.input_stride + input)]);
    });
  return rows;
}

// In double by everything that sources promise; in float the norm exceeds the gradient's by what rounding may add.
template <class U>
void conforms(const convolution_geometry& g, isize batch, isize gap = 0) {
  convolution_weight<U> s(nullptr, nullptr, batch, g);
  REQUIRE(s.problem() == "");
  s.input_stride += gap, s.gradient_stride += 2 * gap;
  const auto a = random_numbers<U>(batch * s.input_stride, 3);
  const auto e = random_numbers<U>(batch * s.gradient_stride, 4);
  s.inputs = a.data(), s.output_gradients = e.data();
  const written_out rows = by_definition(s, a, e);
  if constexpr (std::is_same_v<U, double>) return source_conforms(s, rows, 1e-9); // of numbers that may cancel
  const std::vector<double> squares = squared_norms_of(s);
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const double exact = static_cast<double>(norm_of(rows[i])), norm = std::sqrt(squares[i]);
    CHECK(norm >= exact);
    CHECK(norm <= exact * (1 + 1e-3));
    std::vector<double> only(rows.size(), 0.0);
    for (const double factor : {1.0, 0.1 / norm}) {
      only[i] = factor;
      const std::vector<float> sum = sum_of<float>(s, only);
      CHECK(norm_of(sum) <= static_cast<long double>(factor * norm));
      for (std::size_t k = 0; k < sum.size(); ++k) {
        const double expected = factor * static_cast<double>(rows[i][k]);
        if (!(std::abs(static_cast<double>(sum[k]) - expected) <= 1e-5 * factor * exact))
          CHECK(sum[k] == Approx(expected));
      }
    }
  }
}

bool uses_gram(const convolution_geometry& g) {
  return detail::gram_is_cheaper(g.output_positions(), g.columns(), g.rows());
}

} // namespace

TEST_CASE("convolution_weight: norms, sums and copies are those of the definition, for every kind of geometry") {
  const std::vector<convolution_geometry> table = {
      {.input_channels = 1, .output_channels = 1, .input_size = {1}, .kernel_size = {1}},
      {.input_channels = 3, .output_channels = 5, .input_size = {9}, .kernel_size = {3}},
      {.input_channels = 2,
       .output_channels = 3,
       .input_size = {300},
       .kernel_size = {5},
       .stride = {1},
       .padding = {2}},
      {.input_channels = 2,
       .output_channels = 4,
       .input_size = {11},
       .kernel_size = {3},
       .stride = {2},
       .padding = {3},
       .dilation = {2},
       .groups = 2},
      {.input_channels = 3, .output_channels = 5, .input_size = {6, 7}, .kernel_size = {3, 2}},
      {.input_channels = 4,
       .output_channels = 6,
       .input_size = {7, 5},
       .kernel_size = {3, 3},
       .stride = {2, 1},
       .padding = {1, 2},
       .dilation = {1, 2},
       .groups = 2},
      {.input_channels = 5,
       .output_channels = 10,
       .input_size = {4, 6},
       .kernel_size = {3, 3},
       .padding = {1, 1},
       .groups = 5},
      {.input_channels = 17, .output_channels = 19, .input_size = {3, 3}, .kernel_size = {3, 3}, .padding = {1, 0}},
      {.input_channels = 12, .output_channels = 26, .input_size = {1, 4}, .kernel_size = {1, 3}, .groups = 2},
      {.input_channels = 2, .output_channels = 3, .input_size = {4, 3, 5}, .kernel_size = {2, 2, 3}},
      {.input_channels = 4,
       .output_channels = 4,
       .input_size = {5, 4, 6},
       .kernel_size = {2, 1, 3},
       .stride = {2, 1, 3},
       .padding = {1, 0, 2},
       .dilation = {3, 1, 2},
       .groups = 2},
      // Depthwise: with one weight, dilated, over three dimensions, and of more positions than are made at once.
      {.input_channels = 6,
       .output_channels = 12,
       .input_size = {7, 6},
       .kernel_size = {3, 1},
       .stride = {2, 2},
       .padding = {1, 2},
       .dilation = {1, 2},
       .groups = 3},
      {.input_channels = 3, .output_channels = 3, .input_size = {1}, .kernel_size = {1}, .groups = 3},
      {.input_channels = 3,
       .output_channels = 6,
       .input_size = {9, 6},
       .kernel_size = {3, 2},
       .padding = {2, 3},
       .dilation = {2, 3},
       .groups = 3},
      {.input_channels = 4,
       .output_channels = 2,
       .input_size = {3, 4, 5},
       .kernel_size = {2, 3, 2},
       .padding = {1, 0, 1},
       .groups = 2},
      {.input_channels = 2, .output_channels = 2, .input_size = {2100}, .kernel_size = {2}, .groups = 2},
      {.input_channels = 2,
       .output_channels = 4,
       .input_size = {40, 31},
       .kernel_size = {3, 3},
       .stride = {1, 2},
       .padding = {1, 1},
       .groups = 2}};
  int by_gram = 0;
  for (const convolution_geometry& g : table) {
    by_gram += uses_gram(g);
    conforms<double>(g, 3);
    conforms<float>(g, 2);
  }
  CHECK(by_gram > 1);
  CHECK(by_gram < std::ssize(table) - 1);
  conforms<double>(table[5], 0);
  conforms<double>(table[5], 3, 4);
  conforms<bfloat16>(table[7], 2);
}

TEST_CASE("convolution_weight: channels last, and one image for all samples, have the bits of dense channels first") {
  for (const std::int32_t groups : {1, 2, 4}) // matrix products, of groups, depthwise
    for (const bool shared : {false, true}) {
      const convolution_geometry g{.input_channels = 4,
                                   .output_channels = groups == 4 ? 4 : 10,
                                   .input_size = {5, 6},
                                   .kernel_size = {3, 2},
                                   .stride = {1, groups == 4 ? 1 : 2},
                                   .padding = {1, 1},
                                   .groups = groups};
      convolution_weight<float> first(nullptr, nullptr, 2, g);
      std::vector<float> a = random_numbers<float>(2 * first.input_stride, 3), turned_a(a.size());
      const std::vector<float> e = random_numbers<float>(2 * first.gradient_stride, 4);
      std::vector<float> turned_e(e.size());
      if (shared) std::copy_n(a.begin(), first.input_stride, a.begin() + first.input_stride);
      const auto turn = [](const std::vector<float>& from, isize channels, isize positions, std::vector<float>& to) {
        const auto c = static_cast<std::size_t>(channels), t = static_cast<std::size_t>(positions);
        for (std::size_t k = 0; k < from.size(); ++k) to[k / (c * t) * c * t + k % t * c + k / t % c] = from[k];
      };
      turn(a, g.input_channels, g.input_positions(), turned_a);
      turn(e, g.output_channels, g.output_positions(), turned_e);
      first.inputs = a.data(), first.output_gradients = e.data();
      convolution_weight<float> last(turned_a.data(), turned_e.data(), 2, g);
      last.channels_last = true;
      if (shared) last.input_stride = 0;
      CHECK(last.problem().empty());
      CHECK(squared_norms_of(last) == squared_norms_of(first));
      CHECK(sum_of<float>(last, {1, 0.25}) == sum_of<float>(first, {1, 0.25}));
      std::vector<double> ours(static_cast<std::size_t>(last.size() - 5)), expected(ours.size());
      last.copy_sample(1, 5, last.size() - 5, 1, ours.data());
      first.copy_sample(1, 5, last.size() - 5, 1, expected.data());
      CHECK(ours == expected);
    }
}

TEST_CASE("convolution_weight: a user's images, or augmented views of one, are a unit like any other records") {
  const convolution_geometry g{.input_channels = 2, .output_channels = 3, .input_size = {4}, .kernel_size = {2}};
  const auto a = random_numbers<double>(4 * 8, 1), e = random_numbers<double>(4 * 9, 2);
  const convolution_weight<double> records(a.data(), e.data(), 4, g);
  const written_out rows = by_definition(records, a, e);
  written_out views(2, std::vector<long double>(rows[0].size()));
  for (std::size_t k = 0; k < rows[0].size(); ++k)
    for (std::size_t i = 0; i < 4; ++i) views[i / 2][k] += rows[i][k] / 2;
  source_conforms(averaged_views(records, 2), views, 1e-9);
}

TEST_CASE("convolution_weight: where positions cancel, the Gram norm gives way, and no more is added than the norm") {
  const convolution_geometry g{.input_channels = 9, .output_channels = 9, .input_size = {2}, .kernel_size = {1}};
  REQUIRE(uses_gram(g));
  for (const float left : {0.0F, 1e-8F, 1e-6F, 1e-4F, 1e-2F, 1.0F}) {
    std::vector<float> a(18, 1000.0F), e;
    for (int r = 0; r < 9; ++r) e.insert(e.end(), {1000.0F, -1000.0F * (1 + left)}); // sums to -1e6 x left
    e[3] += left;
    const convolution_weight<float> s(a.data(), e.data(), 1, g);
    const written_out rows = by_definition(s, a, e);
    const double norm = std::sqrt(squared_norms_of(s)[0]);
    const double lengths = 18e6 * (1 + static_cast<double>(left)); // sum over t of |e_t| |a_t|
    CHECK(norm >= static_cast<double>(norm_of(rows[0])));
    CHECK(norm <= static_cast<double>(norm_of(rows[0])) * (1 + 1e-7) + 6e-7 * lengths);
    for (const double factor : {1.0, 0.37}) {
      CHECK(norm_of(sum_of<float>(s, {factor})) <= static_cast<long double>(factor * norm));
      CHECK(norm_of(sum_of<double>(s, {factor})) <= static_cast<long double>(factor * norm));
    }
  }
}

TEST_CASE("convolution_weight: both ways to the norm agree") {
  const convolution_geometry g{
      .input_channels = 40, .output_channels = 60, .input_size = {5, 8}, .kernel_size = {3, 3}, .groups = 2};
  convolution_weight<float> s(nullptr, nullptr, 2, g);
  const auto a = random_numbers<float>(2 * s.input_stride, 1), e = random_numbers<float>(2 * s.gradient_stride, 2);
  s.inputs = a.data(), s.output_gradients = e.data();
  workspace w;
  for (isize i = 0; i < 2; ++i)
    CHECK(s.squared_norm_of(i, true, w) == Approx(s.squared_norm_of(i, false, w)).epsilon(1e-9));
}

TEST_CASE("convolution_weight: tiny and huge numbers keep their norm") {
  const convolution_geometry g{.input_channels = 9, .output_channels = 9, .input_size = {2}, .kernel_size = {1}};
  for (const double size : {1e-75, 1e-30, 1e30, 1e70}) {
    std::vector<double> a(18, size), e(18, size);
    const convolution_weight<double> s(a.data(), e.data(), 1, g);
    CHECK(std::sqrt(squared_norms_of(s)[0]) / size / size == Approx(18));
  }
}

TEST_CASE("convolution_weight: factor 0 skips a sample whose numbers are not finite, and its norm says so") {
  for (const convolution_geometry& g :
       {convolution_geometry{
            .input_channels = 2, .output_channels = 2, .input_size = {5}, .kernel_size = {3}, .padding = {1}},
        convolution_geometry{.input_channels = 9, .output_channels = 9, .input_size = {2}, .kernel_size = {1}},
        convolution_geometry{
            .input_channels = 2, .output_channels = 2, .input_size = {5}, .kernel_size = {2}, .groups = 2}})
    for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()})
      for (const bool in_input : {true, false}) {
        convolution_weight<float> s(nullptr, nullptr, 2, g);
        std::vector<float> a(static_cast<std::size_t>(2 * s.input_stride), 1.0F);
        std::vector<float> e(static_cast<std::size_t>(2 * s.gradient_stride), 1.0F);
        s.inputs = a.data(), s.output_gradients = e.data();
        const std::vector<float> good = sum_of<float>(s, {1, 0});
        (in_input ? a : e).back() = bad;
        CHECK(std::isfinite(squared_norms_of(s)[0]));
        CHECK_FALSE(std::isfinite(squared_norms_of(s)[1]));
        CHECK(sum_of<float>(s, {1, 0}) == good);
        CHECK(good[0] > 0);
      }
}

TEST_CASE("convolution_weight: a geometry that makes no sense is a problem, in one sentence") {
  const auto says = [](const convolution_geometry& g) {
    return convolution_weight<float>(nullptr, nullptr, 0, g).problem();
  };
  CHECK_THAT(says({.input_channels = 3, .output_channels = 4, .input_size = {4}, .kernel_size = {1}, .groups = 2}),
             contains_text("multiples of the number of groups"));
  CHECK_THAT(says({.input_channels = 3, .output_channels = 4, .input_size = {4}, .kernel_size = {1}, .groups = 0}),
             contains_text("multiples of the number of groups"));
  CHECK_THAT(says({}), contains_text("no dimension"));
  CHECK_THAT(says({.input_size = {4, 0, 4}, .kernel_size = {1, 0, 1}}), contains_text("the one before does not"));
  CHECK_THAT(says({.input_size = {4, 4}, .kernel_size = {1}}),
             contains_text("in dimension 1 input size 4, kernel size 0"));
  CHECK_THAT(says({.input_size = {4}, .kernel_size = {1}, .stride = {0}}), contains_text("stride 0"));
  CHECK_THAT(says({.input_size = {4}, .kernel_size = {1}, .padding = {-1}}), contains_text("padding -1"));
  CHECK_THAT(says({.input_size = {4}, .kernel_size = {3}, .dilation = {2}}), contains_text("there is no output"));
  CHECK(says({.input_size = {4}, .kernel_size = {3}, .padding = {1}, .dilation = {2}}).empty());
  convolution_weight<float> s(nullptr, nullptr, 2, {.input_channels = 2, .input_size = {4}, .kernel_size = {3}});
  s.input_stride = 7;
  CHECK_THAT(s.problem(), contains_text("convolution: input_stride lets samples share numbers"));
  s.input_stride = 8, s.gradient_stride = 0;
  CHECK_THAT(s.problem(), contains_text("convolution: gradient_stride lets samples share numbers"));
  s.samples_ = -1;
  CHECK_THAT(s.problem(), contains_text("negative number of samples"));
}

// ---- finite differences: convolution with bias, layer norm over channels with weight and shift, a curved loss
// ---------

namespace {

struct network {
  convolution_geometry g{.input_channels = 2,
                         .output_channels = 4,
                         .input_size = {4, 3},
                         .kernel_size = {2, 2},
                         .stride = {1, 2},
                         .padding = {1, 0},
                         .groups = 2};
  isize positions = g.output_positions();
  std::vector<double> weight = random_numbers<double>(4 * g.columns(), 1), conv_bias = random_numbers<double>(4, 2);
  std::vector<double> gain = random_numbers<double>(4, 3), shift = random_numbers<double>(4, 4);

  // What the backward pass needs, channels first.
  struct pass {
    std::vector<double> normalized, deviation, conv_gradients, norm_gradients;
    double loss = 0;
  };

  pass run(const double* x) const {
    const auto n = static_cast<std::size_t>(4 * positions), step = static_cast<std::size_t>(positions);
    pass p;
    p.normalized.resize(n), p.conv_gradients.resize(n), p.norm_gradients.resize(n), p.deviation.resize(step);
    std::vector<double> y(n);
    for (std::size_t k = 0; k < n; ++k) y[k] = conv_bias[k / step];
    for_each_product(g, [&](isize o, isize t, isize w, isize in) {
      y[static_cast<std::size_t>(o * positions + t)] += weight[static_cast<std::size_t>(w)] * x[in];
    });
    for (std::size_t t = 0; t < step; ++t) {
      double mean = 0, square = 0;
      for (std::size_t c = 0; c < 4; ++c) mean += y[c * step + t] / 4;
      for (std::size_t c = 0; c < 4; ++c) square += (y[c * step + t] - mean) * (y[c * step + t] - mean) / 4;
      p.deviation[t] = std::sqrt(square + 1e-3);
      double sum = 0, dot = 0;
      std::array<double, 4> d{};
      for (std::size_t c = 0; c < 4; ++c) {
        const std::size_t k = c * step + t;
        p.normalized[k] = (y[k] - mean) / p.deviation[t];
        const double z = gain[c] * p.normalized[k] + shift[c];
        const double wanted = std::sin(static_cast<double>(k));
        p.loss += std::log(std::cosh(z - wanted));
        p.norm_gradients[k] = std::tanh(z - wanted);
        d[c] = gain[c] * p.norm_gradients[k];
        sum += d[c] / 4, dot += d[c] * p.normalized[k] / 4;
      }
      for (std::size_t c = 0; c < 4; ++c)
        p.conv_gradients[c * step + t] = (d[c] - sum - p.normalized[c * step + t] * dot) / p.deviation[t];
    }
    return p;
  }
};

} // namespace

TEST_CASE("convolution_weight, bias, normalization_weight: a small network's gradients are its finite differences") {
  network net;
  const isize inputs = 2 * 4 * 3;
  const auto x = random_numbers<double>(2 * inputs, 9);
  for (isize i = 0; i < 2; ++i) {
    const network::pass p = net.run(x.data() + i * inputs);
    const auto layout = channel_layout::channels_first(1, 4, net.positions);
    const auto agree = [&](const auto& source, std::vector<double>& parameter) {
      const std::vector<double> ours = sum_of<double>(source, {1});
      REQUIRE(ours.size() == parameter.size());
      for (std::size_t k = 0; k < ours.size(); ++k) {
        constexpr double h = 1e-5;
        const double at = parameter[k];
        parameter[k] = at + h;
        const double above = net.run(x.data() + i * inputs).loss;
        parameter[k] = at - h;
        const double below = net.run(x.data() + i * inputs).loss;
        parameter[k] = at;
        CHECK(ours[k] == Approx((above - below) / (2 * h)).epsilon(1e-6).margin(1e-8));
      }
    };
    agree(convolution_weight<double>(x.data() + i * inputs, p.conv_gradients.data(), 1, net.g), net.weight);
    agree(bias(p.conv_gradients.data(), layout), net.conv_bias);
    agree(normalization_weight(p.normalized.data(), p.norm_gradients.data(), layout), net.gain);
    agree(bias(p.norm_gradients.data(), layout), net.shift);
  }
}
