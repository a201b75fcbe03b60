// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "support/simt/rows.hpp"

#include "dpopt/cuda/linear_norms.cuh"
#include "dpopt/gradients/linear_weight.hpp"
#include "support/catch.hpp"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

using namespace dpopt;

namespace {

template <class U>
void check(simt::random_rows<U>& a, simt::random_rows<U>& e) {
  const auto batch = static_cast<std::size_t>(a.batch);
  workspace scratch;
  std::vector<double> weight(batch), bias(batch), expected_weight(batch), expected_bias(batch);
  const linear_weight<U> layer{a.memory.data() + a.offset, e.memory.data() + e.offset, a.batch, a.size, e.size};
  layer.add_squared_norms({0, a.batch}, expected_weight.data(), scratch);
  e.on_cpu().add_squared_norms({0, a.batch}, expected_bias.data(), scratch);
  const cuda::outer_view<U> view{a.view(), e.view()};
  const auto shape = cuda::linear_norms_shape(a.batch);
  simt::run<cuda::add_linear_norms<U>>(shape, view, weight.data(), bias.data());
  INFO("batch " << a.batch << " of " << a.size << " x " << e.size << ", offset " << a.offset);
  CHECK(simt::greatest_difference(weight, expected_weight) < 1e-10);
  CHECK(simt::greatest_difference(bias, expected_bias) < 1e-10);

  std::vector<double> alone(batch), together(batch);
  simt::run<cuda::add_linear_norms<U>>(shape, view, alone.data(), nullptr);
  CHECK(simt::greatest_difference(alone, weight) == 0);
  simt::run<cuda::add_linear_norms<U>>(shape, view, together.data(), together.data()); // flat: one norm
  for (std::size_t i = 0; i < batch; ++i) bias[i] += weight[i];
  CHECK(simt::greatest_difference(together, bias) < 1e-14);
}

} // namespace

TEST_CASE("cuda linear norms: weight and bias as on the CPU, apart and together", "[cuda][linear_norms]") {
  const auto check_size = [](isize size) {
    const isize offset = size % 2;
    simt::random_rows<float> a(5, size, 0, offset), e(5, 10, 0, 1 - offset, 2);
    check(a, e);
    simt::random_rows<double> wide(3, 7), long_e(3, size, 0, offset, 2);
    check(wide, long_e);
  };
  for (const isize size : simt::edge_sizes) check_size(size);
  check_size(5003);
  simt::random_rows<float> none(0, 8), no_outputs(0, 3);
  check(none, no_outputs);
}

TEST_CASE("cuda linear norms: each sample once, also with fewer warps and blocks than samples",
          "[cuda][linear_norms][tiny]") {
  const simt::random_rows<float> a(70, 3, 0, 1), e(70, 2, 0, 0, 2);
  const cuda::outer_view<float> view{a.view(), e.view()};
  std::vector<double> expected(70), norms(70);
  workspace scratch;
  linear_weight<float>{a.memory.data() + 1, e.memory.data(), 70, 3, 2}.add_squared_norms({0, 70}, expected.data(),
                                                                                         scratch);
  simt::under_all_schedules([&] {
    std::fill(norms.begin(), norms.end(), 0.0);
    simt::run<cuda::add_linear_norms<float>>({2, 64}, view, norms.data(), nullptr);
    CHECK(simt::greatest_difference(norms, expected) < 1e-10);
  });
}

TEST_CASE("cuda linear norms: NaN on either side stays in its sample, in every schedule",
          "[cuda][linear_norms][tiny]") {
  simt::random_rows<float> a(5, 40), e(5, 6, 0, 0, 2);
  a.row(1)[39] = std::numeric_limits<float>::quiet_NaN();
  e.row(3)[0] = std::numeric_limits<float>::infinity();
  simt::under_all_schedules([&] { check(a, e); });
}

TEST_CASE("cuda linear norms: a product that underflows is bounded", "[cuda][linear_norms]") {
  simt::random_rows<double> a(1, 2), e(1, 2);
  a.row(0)[0] = a.row(0)[1] = 1e-100;
  e.row(0)[0] = e.row(0)[1] = 1e-70;
  std::vector<double> weight(1);
  simt::run<cuda::add_linear_norms<double>>(cuda::linear_norms_shape(1), cuda::outer_view<double>{a.view(), e.view()},
                                            weight.data(), nullptr);
  CHECK(std::sqrt(weight[0]) >= 2e-170);
}
