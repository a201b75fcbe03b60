// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "support/simt/rows.hpp"

#include "dpopt/cuda/scaled_rows.cuh"
#include "dpopt/gradients/outer_products.hpp"
#include "support/catch.hpp"

#include <limits>
#include <vector>

using namespace dpopt;

namespace {

constexpr float not_a_number = std::numeric_limits<float>::quiet_NaN();

/// Both kernels on rows of `positions` each, against scale_row of the core.
template <class U, class Out>
void check(const simt::random_rows<U>& rows, isize samples, isize positions) {
  const auto factors = simt::random_factors(samples);
  const auto n = static_cast<std::size_t>(samples * positions * rows.size);
  std::vector<Out> scaled(n, Out(-1)), selected(n, Out(-1)), expected(n), kept(n);
  for (isize r = 0; r < samples * positions; ++r) {
    const double f = factors[static_cast<std::size_t>(r / positions)];
    if (f == 0) continue;
    const U* const from = rows.memory.data() + rows.offset + r * rows.stride;
    detail::scale_row(from, rows.size, rounded_down<Out, double>(f), expected.data() + r * rows.size);
    for (isize k = 0; k < rows.size; ++k) kept[static_cast<std::size_t>(r * rows.size + k)] = static_cast<Out>(from[k]);
  }
  const auto shape = cuda::scaled_rows_shape(samples, positions);
  const auto view = rows.positions(samples, positions);
  simt::run<cuda::scale_rows<U, Out>>(shape, view, factors.data(), scaled.data());
  simt::run<cuda::select_rows<U, Out>>(shape, view, factors.data(), selected.data());
  INFO("samples " << samples << " positions " << positions << " size " << rows.size);
  CHECK(scaled == expected);
  CHECK(selected == kept);
}

} // namespace

TEST_CASE("cuda scaled rows: the bits of the core's scale_row", "[cuda][scaled_rows]") {
  for (const isize size : simt::edge_sizes) {
    check<float, float>({5, size, 2, 1}, 5, 1);
    check<float, double>({6, size}, 2, 3);
  }
  check<double, double>({6, 40}, 3, 2);
  check<float, float>({0, 40}, 0, 4);
}

TEST_CASE("cuda scaled rows: subnormal products and factors too large for float are rounded down",
          "[cuda][scaled_rows]") {
  simt::random_rows<float> rows(3, 33);
  for (isize k = 0; k < 33; ++k) rows.row(0)[k] *= 1e-38f, rows.row(2)[k] *= 1e-44f;
  check<float, float>(rows, 3, 1);
}

TEST_CASE("cuda scaled rows: dropped samples leave zeros on both sides, whatever they hold",
          "[cuda][scaled_rows][tiny]") {
  simt::random_rows<float> rows(8, 33);
  for (isize r = 2; r < 4; ++r) // sample 1, whose factor is 0
    for (isize k = 0; k < 33; ++k) rows.row(r)[k] = not_a_number;
  simt::under_all_schedules([&] { check<float, float>(rows, 4, 2); });
}
