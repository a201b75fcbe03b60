// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "support/simt/rows.hpp"

#include "dpopt/cuda/product_operands.cuh"
#include "dpopt/gradients/outer_products.hpp"
#include "support/catch.hpp"

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

TEST_CASE("cuda product operands: dropped samples leave zeros on both sides, whatever they hold",
          "[cuda][product_operands][tiny]") {
  simt::random_rows<float> rows(8, 33);
  for (isize r = 2; r < 4; ++r) // sample 1, whose factor is 0
    for (isize k = 0; k < 33; ++k) rows.row(r)[k] = not_a_number;
  simt::under_all_schedules([&] { check<float, float>(rows, 4, 2); });
}
