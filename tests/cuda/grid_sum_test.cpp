// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "support/simt/rows.hpp"

#include "dpopt/accumulation/integer_grid.hpp"
#include "dpopt/cuda/grid_sum.cuh"
#include "dpopt/gradients/linear_sequence.hpp"
#include "dpopt/gradients/linear_weight.hpp"
#include "support/catch.hpp"

#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

using namespace dpopt;

namespace {

constexpr int fraction_bits = 20;

template <class View>
std::vector<std::int64_t> sums_of(const View& view, isize batch, isize size, const std::vector<double>& factors,
                                  double unit) {
  std::vector<std::int64_t> out(static_cast<std::size_t>(size), 0);
  simt::run<cuda::add_grid_sum<View>>(cuda::grid_sum_shape(batch, size), view, batch, size, factors.data(),
                                      cuda::grid_scale{1 / unit, std::ldexp(1.0, fraction_bits)},
                                      cuda::grid_sum_parts(batch, size), out.data());
  return out;
}

template <class Source, class View>
void check(const Source& source, const View& view) {
  const isize batch = source.batch(), size = source.size();
  const auto factors = simt::random_factors(batch);
  workspace scratch;
  integer_grid grid(fraction_bits, 1e6);
  grid.resize(size, 64);
  grid.add(0, source, {0, batch}, factors.data(), scratch);
  const std::vector<std::int64_t> expected(grid.data(), grid.data() + size);
  INFO("batch " << batch << " size " << size);
  CHECK(sums_of(view, batch, size, factors, grid.unit()) == expected);
}

} // namespace

TEST_CASE("cuda grid sum: the bits of integer_grid, for rows of all sizes", "[cuda][grid_sum]") {
  for (const isize size : simt::edge_sizes) {
    const simt::random_rows<float> rows(20, size, 3, 1);
    check(rows.on_cpu(), rows.view());
  }
  const simt::random_rows<float> large(3, 5003, 0, 1);
  check(large.on_cpu(), large.view());
  const simt::random_rows<double> wide(70, 33), none(0, 33);
  check(wide.on_cpu(), wide.view());
  check(none.on_cpu(), none.view());
}

TEST_CASE("cuda grid sum: factored layers, number by number", "[cuda][grid_sum]") {
  const simt::random_rows<float> a(12, 9), e(12, 7, 0, 0, 2);
  const linear_weight<float> linear{a.memory.data(), e.memory.data(), 12, 9, 7};
  check(linear, cuda::outer_view<float>{a.view(), e.view()});
  const linear_sequence<float> sequence{a.memory.data(), e.memory.data(), 4, 3, 9, 7};
  check(sequence, cuda::sequence_view<float>{a.positions(4, 3), e.positions(4, 3)});
}

TEST_CASE("cuda grid sum: what is too large or NaN adds nothing, and factor 0 is not read", "[cuda][grid_sum]") {
  simt::random_rows<float> rows(3, 40);
  rows.row(0)[3] = 1e30f;
  rows.row(0)[4] = std::numeric_limits<float>::quiet_NaN();
  rows.row(1)[5] = std::numeric_limits<float>::infinity(); // factor 0
  rows.row(2)[6] = -65.0f / static_cast<float>(simt::random_factors(3)[2]);
  rows.row(2)[7] = -rows.row(2)[7];
  check(rows.on_cpu(), rows.view());
}

TEST_CASE("cuda grid sum: shares of a batch in several blocks, in every schedule", "[cuda][grid_sum][tiny]") {
  const simt::random_rows<float> rows(40, 20);
  CHECK(cuda::grid_sum_parts(40, 20) == 3);
  simt::under_all_schedules([&] { check(rows.on_cpu(), rows.view()); });
  const std::vector<double> factors(40, 0.5);
  std::vector<std::int64_t> out(20, 0), other(20, 0);
  simt::run<cuda::add_grid_sum<cuda::row_view<float>>>({2, 32}, rows.view(), isize{40}, isize{20}, factors.data(),
                                                       cuda::grid_scale{1024.0, 1e9}, isize{3}, out.data());
  simt::run<cuda::add_grid_sum<cuda::row_view<float>>>({1, 32}, rows.view(), isize{40}, isize{20}, factors.data(),
                                                       cuda::grid_scale{1024.0, 1e9}, isize{1}, other.data());
  CHECK(out == other);
}

TEST_CASE("cuda grid sum: two blocks that share every number", "[cuda][grid_sum][race]") {
  const simt::random_rows<float> rows(4, 32);
  const std::vector<double> factors(4, 0.5);
  std::vector<std::int64_t> shared(32, 7), alone(32, 7);
  simt::run<cuda::add_grid_sum<cuda::row_view<float>>>({2, 32}, rows.view(), isize{4}, isize{32}, factors.data(),
                                                       cuda::grid_scale{1024.0, 1e9}, isize{2}, shared.data());
  simt::run<cuda::add_grid_sum<cuda::row_view<float>>>({1, 32}, rows.view(), isize{4}, isize{32}, factors.data(),
                                                       cuda::grid_scale{1024.0, 1e9}, isize{1}, alone.data());
  CHECK(shared == alone);
}
