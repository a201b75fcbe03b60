// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// The sources of the device against the core's: the same questions, asked through the seam, with the same answers.
#include "support/recording_api.hpp"

#include "support/catch.hpp"

#include "dpopt/accumulation/integer_grid.hpp"
#include "dpopt/core/workspace.hpp"
#include "dpopt/cuda/accumulators.hpp"
#include "dpopt/cuda/embedding_source.cuh"
#include "dpopt/cuda/linear_source.cuh"
#include "dpopt/cuda/materialized_source.cuh"
#include "dpopt/gradients/embedding.hpp"
#include "dpopt/gradients/half.hpp"
#include "dpopt/gradients/linear_sequence.hpp"
#include "dpopt/gradients/linear_weight.hpp"
#include "dpopt/gradients/materialized.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <vector>

using namespace dpopt;
using testing::recording_api;

namespace {

using device = cuda::device_work<recording_api>;

template <class U>
std::vector<U> numbers(isize n, unsigned seed) {
  std::mt19937 random(seed);
  std::normal_distribution<double> normal;
  std::vector<U> out(static_cast<std::size_t>(n));
  for (U& x : out) x = static_cast<U>(normal(random));
  return out;
}

double distance(const std::vector<float>& a, const std::vector<float>& b) {
  double worst = 0, largest = 1e-30;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const double d = std::abs(static_cast<double>(a[i]) - static_cast<double>(b[i]));
    worst = d <= worst ? worst : std::isnan(d) ? std::numeric_limits<double>::infinity() : d;
    largest = std::max(largest, std::abs(static_cast<double>(b[i])));
  }
  return worst / largest;
}

/// Norms, float sums and, where both can, the integer grid, with a factor of 0 for sample 1.
template <class OnDevice, class OnHost>
void check_same(const OnDevice& ours, const OnHost& core, isize norms_launches) {
  const isize batch = core.batch(), size = core.size();
  CHECK(ours.batch() == batch);
  CHECK(ours.size() == size);
  recording_api api(3);
  device on(api);
  workspace scratch;

  std::vector<double> norms(static_cast<std::size_t>(batch), 0.25), core_norms = norms;
  ours.add_squared_norms(on, norms.data());
  core.add_squared_norms({0, batch}, core_norms.data(), scratch);
  CHECK(std::ssize(api.calls()) - api.count(testing::recorded_call::kind::allocate) == norms_launches);
  for (std::size_t i = 0; i < norms.size(); ++i) {
    if (i == 1) CHECK(!std::isfinite(norms[i]));
    else CHECK(std::abs(norms[i] - core_norms[i]) <= 1e-11 * core_norms[i]);
  }

  std::vector<double> factors(static_cast<std::size_t>(batch));
  for (std::size_t i = 0; i < factors.size(); ++i) factors[i] = i == 1 ? 0 : 1.0 / static_cast<double>(i + 1);
  std::vector<float> sum(static_cast<std::size_t>(size), 0.5F), core_sum = sum;
  cuda::running_sum<float>{}.add(on, ours, factors.data(), sum.data());
  core.add_weighted_sum({0, batch}, factors.data(), core_sum.data(), scratch);
  CHECK(distance(sum, core_sum) <= 1e-6);

  if constexpr (cuda::GridGradients<OnDevice, recording_api>) {
    integer_grid core_grid;
    core_grid.resize(size, 100.0);
    core_grid.add(0, core, {0, batch}, factors.data(), scratch);
    cuda::integer_grid grid;
    grid.bind(100.0);
    CHECK(grid.unit() == core_grid.unit());
    std::vector<std::int64_t> units(static_cast<std::size_t>(size), 0);
    grid.add(on, ours, factors.data(), units.data());
    CHECK(std::equal(units.begin(), units.end(), core_grid.data()));
    CHECK(std::ranges::count(units, 0) < size); // something was added
  }
  for (const auto& call : api.calls()) CHECK(call.stream == 3);

  api.forget_calls(); // once more: scratch memory has its size by now
  ours.add_squared_norms(on, norms.data());
  cuda::running_sum<float>{}.add(on, ours, factors.data(), sum.data());
  CHECK(api.count(testing::recorded_call::kind::allocate) == 0);
}

constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();

} // namespace

TEST_CASE("materialized rows on the device answer as the core's, short and long") {
  for (const isize size : {1, 31, 257, 9001}) {
    INFO(size << " elements");
    const isize batch = 5, stride = size + 3;
    auto rows = numbers<float>(batch * stride, 1);
    rows[static_cast<std::size_t>(stride)] = not_a_number; // sample 1
    check_same(cuda::materialized<float>(rows.data(), batch, size, stride),
               materialized<float>(rows.data(), batch, size, stride), size > 4096 ? 2 : 1);
  }
}

TEST_CASE("linear weights on the device answer as the core's, and dropped samples may be NaN in either factor") {
  const isize batch = 6, inputs = 33, outputs = 7;
  for (const bool in_activations : {false, true}) {
    auto a = numbers<float>(batch * inputs, 2), e = numbers<float>(batch * outputs, 3);
    (in_activations ? a[static_cast<std::size_t>(inputs)] : e[static_cast<std::size_t>(outputs)]) = not_a_number;
    check_same(cuda::linear_weight<float>{a.data(), e.data(), batch, inputs, outputs},
               linear_weight<float>{a.data(), e.data(), batch, inputs, outputs}, 1);
  }
}

TEST_CASE("linear layers over positions on the device answer as the core's, by either way to the norm") {
  for (const isize positions : {2, 40}) {
    const isize batch = 4, inputs = 9, outputs = 5;
    auto a = numbers<float>(batch * positions * inputs, 4), e = numbers<float>(batch * positions * outputs, 5);
    a[static_cast<std::size_t>(positions * inputs)] = not_a_number;
    const linear_sequence<float> core{.activations = a.data(),
                                      .output_gradients = e.data(),
                                      .samples_ = batch,
                                      .positions = positions,
                                      .inputs = inputs,
                                      .outputs = outputs};
    const cuda::linear_sequence<float> ours{.activations = a.data(),
                                            .output_gradients = e.data(),
                                            .samples_ = batch,
                                            .positions = positions,
                                            .inputs = inputs,
                                            .outputs = outputs};
    CHECK(ours.problem().empty());
    check_same(ours, core, 1);
  }
  cuda::linear_sequence<float> overlapping{nullptr, nullptr, 3, 2, 4, 4};
  overlapping.output_sample_stride = 1;
  CHECK(overlapping.problem().find("strides") != std::string::npos);
}

TEST_CASE("embeddings on the device answer as the core's, with repeats and padding") {
  const isize batch = 5, positions = 6, vocabulary = 11, dimension = 33;
  std::vector<std::int32_t> tokens;
  for (isize at = 0; at < batch * positions; ++at) tokens.push_back(static_cast<std::int32_t>(at * at % 7));
  auto e = numbers<float>(batch * positions * dimension, 6);
  e[static_cast<std::size_t>((positions + 2) * dimension)] = not_a_number; // sample 1, not padding
  check_same(cuda::embedding<float>(tokens.data(), e.data(), batch, positions, vocabulary, dimension, 0),
             embedding<float>(tokens.data(), e.data(), batch, positions, vocabulary, dimension, 0), 2);
  CHECK(!cuda::embedding<float>(nullptr, e.data(), -1, 1, 1, 1).problem().empty());
}

TEMPLATE_TEST_CASE("numbers of 16 bits on the device: norms, sums and grid as the core's, for each kind of source", "",
                   bfloat16, float16) {
  const auto numbers_with_nan = [](isize n, isize nan_at, unsigned seed) {
    auto out = numbers<TestType>(n, seed);
    out[static_cast<std::size_t>(nan_at)] = TestType(not_a_number);
    return out;
  };
  for (const isize size : {1, 33, 257, 9001}) {
    const auto rows = numbers_with_nan(5 * (size + 3), size + 3, 1);
    check_same(cuda::materialized<TestType>(rows.data(), 5, size, size + 3),
               materialized<TestType>(rows.data(), 5, size, size + 3), size > 4096 ? 2 : 1);
  }
  const auto a = numbers_with_nan(6 * 33, 33, 2), e = numbers<TestType>(6 * 7, 3);
  check_same(cuda::linear_weight<TestType>{a.data(), e.data(), 6, 33, 7},
             linear_weight<TestType>{a.data(), e.data(), 6, 33, 7}, 1);
  for (const isize positions : {2, 40}) {
    const auto x = numbers_with_nan(4 * positions * 9, positions * 9, 4), g = numbers<TestType>(4 * positions * 5, 5);
    check_same(cuda::linear_sequence<TestType>{x.data(), g.data(), 4, positions, 9, 5},
               linear_sequence<TestType>{x.data(), g.data(), 4, positions, 9, 5}, 1);
  }
  const std::vector<std::int32_t> tokens{0, 3, 3, 1, 2, 1, 4, 4, 4, 0, 2, 3};
  const auto rows = numbers_with_nan(12 * 33, 5 * 33, 6);
  check_same(cuda::embedding<TestType>(tokens.data(), rows.data(), 3, 4, 6, 33),
             embedding<TestType>(tokens.data(), rows.data(), 3, 4, 6, 33), 2);
}
