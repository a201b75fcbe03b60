// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "support/simt/rows.hpp"

#include "dpopt/cuda/product_operands.cuh"
#include "dpopt/gradients/outer_products.hpp"
#include "support/catch.hpp"

#include <cmath>
#include <limits>
#include <vector>

using namespace dpopt;

namespace {

constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();

/// Output gradients and activations of `positions` rows each, against scale_row of the core.
template <class U, class Out>
void check(const simt::random_rows<U>& e, const simt::random_rows<U>& a, isize samples, isize positions) {
  const auto factors = simt::random_factors(samples);
  const auto numbers = [&](const auto& rows) { return static_cast<std::size_t>(samples * positions * rows.size); };
  std::vector<Out> scaled(numbers(e), Out(-1)), selected(numbers(a), Out(-1)), expected(numbers(e)), kept(numbers(a));
  for (isize r = 0; r < samples * positions; ++r) {
    const double f = factors[static_cast<std::size_t>(r / positions)];
    if (f == 0) continue;
    detail::scale_row(e.memory.data() + e.offset + r * e.stride, e.size, rounded_down<Out, double>(f),
                      expected.data() + r * e.size);
    for (isize k = 0; k < a.size; ++k)
      kept[static_cast<std::size_t>(r * a.size + k)] =
          static_cast<Out>(a.memory[static_cast<std::size_t>(a.offset + r * a.stride + k)]);
  }
  simt::run<cuda::product_operands<U, Out>>(
      cuda::product_operands_shape(samples, positions),
      cuda::sequence_view<U>{a.positions(samples, positions), e.positions(samples, positions)}, factors.data(),
      scaled.data(), selected.data());
  INFO("samples " << samples << " positions " << positions << " sizes " << e.size << ", " << a.size);
  CHECK(scaled == expected);
  CHECK(selected == kept);
}
template <class U, class Out>
void check(const simt::random_rows<U>& rows, isize samples, isize positions) {
  check<U, Out>(rows, simt::random_rows<U>(samples * positions, 7, 1), samples, positions);
  check<U, Out>(simt::random_rows<U>(samples * positions, 7, 1), rows, samples, positions);
}

} // namespace

TEST_CASE("cuda product operands: the bits of the core's scale_row", "[cuda][product_operands]") {
  for (const isize size : simt::edge_sizes) {
    check<float, float>({5, size, 2, 1}, 5, 1);
    check<float, double>({6, size}, 2, 3);
  }
  check<float, float>({3, 5003, 0, 1}, 3, 1);
  check<double, double>({6, 40}, 3, 2);
  check<float, float>({0, 40}, 0, 4);
}

TEST_CASE("cuda product operands: subnormal products and factors too large for float are rounded down",
          "[cuda][product_operands]") {
  simt::random_rows<float> rows(3, 33);
  for (isize k = 0; k < 33; ++k) rows.row(0)[k] *= 1e-38f, rows.row(2)[k] *= 1e-44f;
  check<float, float>(rows, 3, 1);
}

TEST_CASE("cuda product operands: rows that leave float's range are balanced where activations bring them back",
          "[cuda][product_operands]") {
  struct row {
    float e, a;
    double factor;
    float last = 0; // output gradient; 0: one of the size of the others
  };
  for (const row& x : {row{1, 3e38F, 1e-44},
                       {-7e37F, 2e38F, 3e-80},
                       {3e38F, 1e-38F, 8.0},
                       {1e-30F, 1e30F, 1e-12},
                       {3e8F, 2e6F, 3.0, 1e-40F}}) { // of a huge bound
    simt::random_rows<float> e(2, 3), a(2, 70);
    for (isize k = 0; k < 3; ++k) e.row(1)[k] = x.e / static_cast<float>(k + 1);
    if (x.last != 0) e.row(1)[2] = x.last;
    for (isize k = 0; k < 70; ++k) a.row(1)[k] = x.a / static_cast<float>(70 - k);
    const std::vector<double> factors{0.5, x.factor};
    std::vector<float> scaled(2 * 3), selected(2 * 70);
    simt::run<cuda::product_operands<float, float>>(cuda::product_operands_shape(2, 1),
                                                    cuda::sequence_view<float>{a.positions(2, 1), e.positions(2, 1)},
                                                    factors.data(), scaled.data(), selected.data());
    CHECK(selected[69] == a.row(0)[69]); // its neighbour is as ever
    for (std::size_t o = 0; o < 3; ++o) {
      const double product = static_cast<double>(scaled[3 + o]) * static_cast<double>(selected[139]);
      const double exact = x.factor * static_cast<double>(e.row(1)[o]) * static_cast<double>(a.row(1)[69]);
      CHECK(std::abs(product) <= std::abs(exact));
      CHECK(product == Approx(exact).epsilon(1e-6));
    }
  }
}

TEST_CASE("cuda product operands: dropped samples leave zeros on both sides, whatever they hold",
          "[cuda][product_operands][tiny]") {
  simt::random_rows<float> rows(8, 33);
  for (isize r = 2; r < 4; ++r) // sample 1, whose factor is 0
    for (isize k = 0; k < 33; ++k) rows.row(r)[k] = not_a_number;
  simt::under_all_schedules([&] { check<float, float>(rows, 4, 2); });
}
