// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "support/simt/rows.hpp"

#include "dpopt/cuda/sequence_norms.cuh"
#include "dpopt/gradients/half.hpp"
#include "dpopt/gradients/linear_sequence.hpp"
#include "support/catch.hpp"

#include <cmath>
#include <limits>
#include <vector>

using namespace dpopt;

namespace {

template <class U>
std::vector<double> norms_of(const cuda::sequence_view<U>& view, bool by_gram) {
  std::vector<double> out(static_cast<std::size_t>(view.inputs.samples));
  simt::run<cuda::add_sequence_norms<U>>(cuda::sequence_norms_shape(view.inputs.samples), view, by_gram, out.data());
  return out;
}

/// The exact squared norm of one sample's gradient.
template <class U>
double exact(const linear_sequence<U>& layer, isize i) {
  std::vector<double> g(static_cast<std::size_t>(layer.size()));
  layer.copy_sample(i, 0, layer.size(), 1, g.data());
  double sum = 0;
  for (const double x : g) sum += x * x;
  return sum;
}

template <class U>
void check(isize samples, isize positions, isize inputs, isize outputs, isize offset = 0) {
  const simt::random_rows<U> a(samples * positions, inputs, 0, offset), e(samples * positions, outputs, 0, offset, 2);
  const linear_sequence<U> layer{
      a.memory.data() + offset, e.memory.data() + offset, samples, positions, inputs, outputs};
  workspace scratch;
  INFO("positions " << positions << " of " << inputs << " x " << outputs << ", offset " << offset);
  for (const bool by_gram : {true, false}) {
    const auto norms =
        norms_of(cuda::sequence_view<U>{a.positions(samples, positions), e.positions(samples, positions)}, by_gram);
    for (isize i = 0; i < samples; ++i) {
      const double norm = norms[static_cast<std::size_t>(i)];
      CHECK(norm == Approx(layer.squared_norm_of(i, by_gram, scratch)).epsilon(1e-6));
      CHECK(norm >= exact(layer, i));
    }
  }
}

} // namespace

TEST_CASE("cuda sequence norms: both ways as on the CPU, and upper bounds", "[cuda][sequence_norms]") {
  for (const isize positions : {0, 1, 2, 15, 16, 17, 33}) check<float>(2, positions, 19, 5);
  for (const isize width : {1, 16, 33}) check<double>(1, 7, width, 34 - width);
  check<float>(0, 3, 4, 5);
}

TEST_CASE("cuda sequence norms: around a warp, around a block and beyond, unaligned too", "[cuda][sequence_norms]") {
  for (const isize positions : {31, 32, 255, 256, 257}) check<float>(1, positions, 2, 1, positions % 2);
  for (const isize width : {31, 32, 33, 255, 256, 257, 700}) check<float>(1, 2, width, 2, 1);
  for (const isize width : {32, 257}) check<double>(1, 2, 1, width, 1);
  check<bfloat16>(2, 18, 33, 17, 1);
  simt::under_all_schedules([] { check<float>(1, 33, 31, 5, 1); });
}

TEST_CASE("cuda sequence norms: the same bits under every schedule", "[cuda][sequence_norms]") {
  const simt::random_rows<float> a(2 * 19, 20), e(2 * 19, 18, 0, 0, 2);
  const cuda::sequence_view<float> view{a.positions(2, 19), e.positions(2, 19)};
  for (const bool by_gram : {true, false}) {
    const auto first = norms_of(view, by_gram);
    simt::under_all_schedules([&] { CHECK(norms_of(view, by_gram) == first); });
  }
}

TEST_CASE("cuda sequence norms: long rows that cancel are bounded, by making the gradient", "[cuda][sequence_norms]") {
  simt::random_rows<float> a(2, 24), e(2, 24, 0, 0, 2); // one sample of two positions: e, then nearly -e
  for (isize k = 0; k < 24; ++k) {
    a.row(0)[k] *= 1e4f;
    e.row(0)[k] *= 1e4f;
    a.row(1)[k] = a.row(0)[k];
    e.row(1)[k] = k == 3 ? -e.row(0)[k] * (1 + 1e-6f) : -e.row(0)[k];
  }
  const linear_sequence<float> layer{a.memory.data(), e.memory.data(), 1, 2, 24, 24};
  workspace scratch;
  const auto norms = norms_of(cuda::sequence_view<float>{a.positions(1, 2), e.positions(1, 2)}, true);
  CHECK(norms[0] >= exact(layer, 0));
  CHECK(norms[0] == Approx(layer.squared_norm_of(0, true, scratch)).epsilon(1e-6));
}

TEST_CASE("cuda sequence norms: NaN and Inf stay in their sample", "[cuda][sequence_norms]") {
  simt::random_rows<float> a(3 * 5, 20), e(3 * 5, 20, 0, 0, 2);
  a.row(7)[19] = std::numeric_limits<float>::quiet_NaN();
  e.row(14)[3] = std::numeric_limits<float>::infinity();
  for (const bool by_gram : {true, false}) {
    const auto norms = norms_of(cuda::sequence_view<float>{a.positions(3, 5), e.positions(3, 5)}, by_gram);
    CHECK(std::isfinite(norms[0]));
    CHECK_FALSE(std::isfinite(norms[1]));
    CHECK_FALSE(std::isfinite(norms[2]));
  }
}

TEST_CASE("cuda sequence norms: time-major data by their strides", "[cuda][sequence_norms][tiny]") {
  const isize samples = 2, positions = 3, inputs = 5, outputs = 4;
  simt::random_rows<float> a(samples * positions, inputs), e(samples * positions, outputs, 0, 0, 2);
  linear_sequence<float> layer{a.memory.data(), e.memory.data(), samples, positions, inputs, outputs};
  layer.input_sample_stride = inputs, layer.input_position_stride = samples * inputs;
  layer.output_sample_stride = outputs, layer.output_position_stride = samples * outputs;
  const cuda::sequence_view<float> view{{a.memory.data(), samples, positions, inputs, inputs, samples * inputs},
                                        {e.memory.data(), samples, positions, outputs, outputs, samples * outputs}};
  workspace scratch;
  for (const bool by_gram : {true, false}) {
    const auto norms = norms_of(view, by_gram);
    for (isize i = 0; i < samples; ++i)
      CHECK(norms[static_cast<std::size_t>(i)] == Approx(layer.squared_norm_of(i, by_gram, scratch)).epsilon(1e-6));
  }
}

TEST_CASE("cuda sequence norms: tiny doubles are made, not multiplied", "[cuda][sequence_norms]") {
  simt::random_rows<double> a(2, 3), e(2, 3, 0, 0, 2);
  for (double& x : a.memory) x *= 1e-90;
  for (double& x : e.memory) x *= 1e-80;
  const linear_sequence<double> layer{a.memory.data(), e.memory.data(), 1, 2, 3, 3};
  const auto norms = norms_of(cuda::sequence_view<double>{a.positions(1, 2), e.positions(1, 2)}, true);
  workspace scratch;
  CHECK(norms[0] > 0);
  CHECK(norms[0] == Approx(layer.squared_norm_of(0, true, scratch)).epsilon(1e-6).margin(1e-322));
}
