// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/gradients/bias.hpp"

#include "dpopt/gradients/half.hpp"
#include "dpopt/gradients/normalization_weight.hpp"
#include "support/random_numbers.hpp"
#include "support/source_conformance.hpp"

#include <cmath>
#include <limits>
#include <vector>

using namespace dpopt;
using namespace dpopt::test;

namespace {

// Sums over positions by the definition; x may be null for a bias.
template <class U>
written_out by_definition(const channel_layout& at, const std::vector<U>& e, const std::vector<U>* x) {
  written_out rows(static_cast<std::size_t>(at.batch));
  for (isize i = 0; i < at.batch; ++i)
    for (isize c = 0; c < at.channels; ++c) {
      long double sum = 0;
      for (isize t = 0; t < at.positions; ++t) {
        const auto k = static_cast<std::size_t>(i * at.sample_stride + t * at.position_stride + c * at.channel_stride);
        sum += static_cast<long double>(e[k]) * (x ? static_cast<long double>((*x)[k]) : 1.0L);
      }
      rows[static_cast<std::size_t>(i)].push_back(sum);
    }
  return rows;
}

template <class U>
void conforms(const channel_layout& at, isize numbers) {
  const auto e = random_numbers<U>(numbers, 1);
  const auto x = random_numbers<U>(numbers, 2);
  source_conforms(bias(e.data(), at), by_definition(at, e, static_cast<const std::vector<U>*>(nullptr)), 1e-13);
  source_conforms(normalization_weight(x.data(), e.data(), at), by_definition(at, e, &x), 1e-13);
}

} // namespace

TEST_CASE("bias, normalization_weight: each channel's sum over positions, in both orders and with strides") {
  struct shape {
    isize batch, positions, channels;
  };
  for (const auto& [batch, positions, channels] :
       {shape{4, 1, 5}, {3, 7, 5}, {3, 19, 1}, {2, 9, 600}, {0, 3, 4}, {2, 0, 3}}) {
    conforms<float>(channel_layout::channels_last(batch, positions, channels), batch * positions * channels);
    conforms<float>(channel_layout::channels_first(batch, channels, positions), batch * positions * channels);
    // Time-major, with a gap after each row.
    conforms<float>({batch, positions, channels, channels + 3, batch * (channels + 3), 1},
                    batch * positions * (channels + 3));
    // Neither positions nor channels are neighbours.
    conforms<float>({batch, positions, channels, 2 * positions * channels, 2, 2 * positions},
                    2 * batch * positions * channels);
  }
  conforms<double>(channel_layout::channels_first(3, 4, 11), 3 * 4 * 11);
  const auto half = random_numbers<bfloat16>(3 * 5 * 4, 3);
  const auto at = channel_layout::channels_last(3, 5, 4);
  std::vector<double> wide;
  for (const bfloat16 h : half) wide.push_back(static_cast<double>(h));
  source_conforms(bias(half.data(), at), by_definition(at, wide, static_cast<const std::vector<double>*>(nullptr)));
}

TEST_CASE("normalization_weight: inputs in a layout of their own; other shapes and shared numbers are a problem") {
  const channel_layout last = channel_layout::channels_last(3, 4, 5), first = channel_layout::channels_first(3, 5, 4);
  const auto e = random_numbers<float>(60, 1), x = random_numbers<float>(60, 2);
  std::vector<float> turned(60);
  for (isize i = 0; i < 3; ++i)
    for (isize t = 0; t < 4; ++t)
      for (isize c = 0; c < 5; ++c)
        turned[static_cast<std::size_t>(first.at(i, t, c))] = x[static_cast<std::size_t>(last.at(i, t, c))];
  const normalization_weight s(turned.data(), e.data(), last, first);
  CHECK(s.problem().empty());
  source_conforms(s, by_definition(last, e, &x), 1e-13);
  CHECK_THAT(normalization_weight(x.data(), e.data(), last, channel_layout::channels_last(3, 5, 4)).problem(),
             contains_text("only strides may differ"));
  channel_layout shared = last;
  shared.sample_stride = 15;
  CHECK_THAT(normalization_weight(x.data(), e.data(), last, shared).problem(),
             contains_text("normalization_weight: the layout's strides let samples share numbers"));
  CHECK_THAT(bias(e.data(), shared).problem(), contains_text("bias: the layout's strides"));
}

TEST_CASE("bias, normalization_weight: where positions cancel, no more is added than the norm says") {
  const std::vector<float> e = {3e7F, 1, -3e7F, 1e-3F, 3e7F, -1, -3e7F, 0};
  const std::vector<float> x = {1, 3e7F, 1, 1, 1, 3e7F, 1, 1};
  for (const auto& at : {channel_layout::channels_last(1, 4, 2), channel_layout::channels_first(1, 2, 4)})
    for (const double factor : {1.0, 0.3}) {
      const bias b(e.data(), at);
      CHECK(norm_of(sum_of<float>(b, {factor})) <= factor * std::sqrt(squared_norms_of(b)[0]));
      const normalization_weight w(x.data(), e.data(), at);
      CHECK(norm_of(sum_of<float>(w, {factor})) <= factor * std::sqrt(squared_norms_of(w)[0]));
    }
  CHECK(squared_norms_of(bias(e.data(), channel_layout::channels_last(1, 4, 2)))[0] < 1e-5);
}

TEST_CASE("bias, normalization_weight: factor 0 skips numbers that are not finite, and the norm says so") {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()})
    for (const auto& at : {channel_layout::channels_last(2, 3, 2), channel_layout::channels_first(2, 2, 3)}) {
      std::vector<float> e(12, 1.0F), x(12, 2.0F);
      e[8] = bad;
      CHECK_FALSE(std::isfinite(squared_norms_of(bias(e.data(), at))[1]));
      CHECK(squared_norms_of(bias(e.data(), at))[0] == Approx(18));
      CHECK(sum_of<float>(bias(e.data(), at), {1, 0})[0] == Approx(3));
      e[8] = 0, x[8] = bad; // 0 x infinity is no number
      CHECK_FALSE(std::isfinite(squared_norms_of(normalization_weight(x.data(), e.data(), at))[1]));
      CHECK(sum_of<float>(normalization_weight(x.data(), e.data(), at), {1, 0})[1] == Approx(6));
    }
}

TEST_CASE("bias: a layout with negative numbers is a problem") {
  const bias<float> b(nullptr, channel_layout::channels_last(1, -1, 2));
  CHECK_THAT(b.problem(), contains_text("bias: the layout has a negative number"));
}
