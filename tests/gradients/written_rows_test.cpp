// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// Rows that sources write out, against copy_sample, which has tests of its own against the definition.
#include "dpopt/gradients/written_rows.hpp"

#include "dpopt/accumulation/compensated_sum.hpp"
#include "dpopt/accumulation/integer_grid.hpp"
#include "dpopt/accumulation/running_sum.hpp"
#include "dpopt/gradients/convolution_weight.hpp"
#include "dpopt/gradients/half.hpp"
#include "dpopt/gradients/linear_sequence.hpp"
#include "support/random_numbers.hpp"
#include "support/source_conformance.hpp"

#include <cmath>
#include <limits>
#include <vector>

using namespace dpopt;
using namespace dpopt::test;

namespace {

template <class V, class S>
std::vector<V> rows_of(const S& s, samples range) {
  workspace w;
  std::vector<V> rows(static_cast<std::size_t>(range.count * s.size()), V(-1)); // to be written over
  s.write_rows(range, rows.data(), w);
  return rows;
}

/// All rows are the samples' gradients, and each has the same bits by itself.
template <class V, class S>
void rows_conform(const S& s) {
  const std::vector<V> rows = rows_of<V>(s, {0, s.batch()});
  const auto size = static_cast<std::size_t>(s.size());
  std::vector<double> g(size);
  for (isize i = 0; i < s.batch(); ++i) {
    const auto begin = rows.begin() + i * s.size();
    CHECK(rows_of<V>(s, {i, 1}) == std::vector<V>(begin, begin + s.size()));
    s.copy_sample(i, 0, s.size(), 1, g.data());
    const double off = 40 * std::numeric_limits<V>::epsilon() * static_cast<double>(norm_of(g));
    for (std::size_t k = 0; k < size; ++k)
      if (!(std::abs(static_cast<double>(begin[static_cast<isize>(k)]) - g[k]) <= off))
        CHECK(static_cast<double>(begin[static_cast<isize>(k)]) == Approx(g[k]));
  }
}

const convolution_geometry strided{.input_channels = 4,
                                   .output_channels = 10,
                                   .input_size = {9, 7},
                                   .kernel_size = {3, 2},
                                   .stride = {2, 1},
                                   .padding = {1, 2},
                                   .dilation = {1, 2},
                                   .groups = 2};
const convolution_geometry long_line{
    .input_channels = 2, .output_channels = 3, .input_size = {600}, .kernel_size = {3}, .padding = {1}};

} // namespace

TEST_CASE("written rows: a convolution's are its gradients, for groups, many positions, both layouts and halves") {
  for (const convolution_geometry& g : {strided, long_line})
    for (const bool channels_last : {false, true}) {
      convolution_weight<float> s(nullptr, nullptr, 3, g);
      const auto a = random_numbers<float>(3 * s.input_stride, 1), e = random_numbers<float>(3 * s.gradient_stride, 2);
      s.inputs = a.data(), s.output_gradients = e.data(), s.channels_last = channels_last;
      CHECK(s.rows_are_cheaper());
      rows_conform<float>(s);
      rows_conform<double>(s);
    }
  convolution_weight<bfloat16> s(nullptr, nullptr, 2, strided);
  const auto a = random_numbers<bfloat16>(2 * s.input_stride, 1),
             e = random_numbers<bfloat16>(2 * s.gradient_stride, 2);
  s.inputs = a.data(), s.output_gradients = e.data();
  rows_conform<float>(s);
}

TEST_CASE("written rows: a sequence's are its gradients, with time first, in windows over a series, and of halves") {
  const isize batch = 3, positions = 9, inputs = 8, outputs = 6;
  const auto a = random_numbers<float>(batch * positions * inputs, 1);
  const auto e = random_numbers<float>(batch * positions * outputs, 2);
  linear_sequence<float> s{a.data(), e.data(), batch, positions, inputs, outputs};
  CHECK(s.rows_are_cheaper());
  rows_conform<float>(s);
  rows_conform<double>(s);
  s.input_sample_stride = inputs, s.input_position_stride = batch * inputs; // time first
  s.output_sample_stride = outputs, s.output_position_stride = batch * outputs;
  REQUIRE(s.problem().empty());
  rows_conform<float>(s);
  s.input_sample_stride = 0, s.input_position_stride = 1; // windows over one series
  REQUIRE(s.problem().empty());
  rows_conform<float>(s);
  const auto narrow_a = random_numbers<float16>(batch * positions * inputs, 1);
  const auto narrow_e = random_numbers<float16>(batch * positions * outputs, 2);
  rows_conform<float>(linear_sequence<float16>{narrow_a.data(), narrow_e.data(), batch, positions, inputs, outputs});
}

TEST_CASE("written rows: a number that is not finite leaves its mark on its own row alone") {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()})
    for (const bool in_input : {true, false}) {
      convolution_weight<float> s(nullptr, nullptr, 2, long_line);
      auto a = random_numbers<float>(2 * s.input_stride, 1), e = random_numbers<float>(2 * s.gradient_stride, 2);
      s.inputs = a.data(), s.output_gradients = e.data();
      const std::vector<float> good = rows_of<float>(s, {0, 1});
      (in_input ? a : e)[(in_input ? a : e).size() - 2] = bad;
      CHECK(rows_of<float>(s, {0, 1}) == good);
      CHECK_FALSE(rows_hold<float>(squared_norm(rows_of<float>(s, {1, 1}).data(), s.size())));
    }
}

TEST_CASE("written rows: only what is out of a float's range is asked of the source again") {
  CHECK(rows_hold<float>(1e-49));
  CHECK(rows_hold<float>(1e70));
  CHECK_FALSE(rows_hold<float>(0)); // may be a gradient that vanished
  CHECK_FALSE(rows_hold<float>(std::numeric_limits<double>::infinity()));
  CHECK_FALSE(rows_hold<float>(std::numeric_limits<double>::quiet_NaN()));
}

TEST_CASE("written rows: are made for shapes they are cheaper for, whatever the batch, and never beyond a megabyte") {
  const auto cheaper = [](isize batch, isize positions, isize width) {
    return linear_sequence<float>{nullptr, nullptr, batch, positions, width, width}.rows_are_cheaper();
  };
  for (const isize batch : {0, 1, 1000}) {
    CHECK(cheaper(batch, 128, 256));
    CHECK(cheaper(batch, 32, 512));
    CHECK_FALSE(cheaper(batch, 8, 256)); // Gram matrices
    CHECK_FALSE(cheaper(batch, 128, 513));
  }
  const convolution_geometry depthwise{
      .input_channels = 8, .output_channels = 8, .input_size = {9}, .kernel_size = {3}, .groups = 8};
  CHECK_FALSE(convolution_weight<float>(nullptr, nullptr, 2, depthwise).rows_are_cheaper());
  for (const isize size : {1, 100, 10000, 20000, 250000}) {
    CHECK(rows_at_once<float>(size) >= 1);
    CHECK(rows_at_once<float>(size) * size <= 256 * 1024);
  }
}

// Sums that promise the digits or the bits of exact gradients are given those.
static_assert(WritesRowsFor<convolution_weight<float>, running_sum<float>>);
static_assert(WritesRowsFor<linear_sequence<float>, running_sum<double>>);
static_assert(!WritesRowsFor<linear_sequence<double>, running_sum<float>>); // may only fit once multiplied
static_assert(!WritesRowsFor<convolution_weight<float>, compensated_sum<float>>);
static_assert(!WritesRowsFor<convolution_weight<float>, integer_grid>);
