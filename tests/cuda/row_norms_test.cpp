// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "support/simt/rows.hpp"

#include "dpopt/cuda/row_norms.cuh"
#include "support/catch.hpp"

#include <cmath>
#include <cstddef>
#include <limits>
#include <vector>

using namespace dpopt;

namespace {

/// What the kernels add to zeros, as the plan says.
template <class U>
std::vector<double> norms_of(const cuda::row_view<U>& rows, double before = 0) {
  std::vector<double> out(static_cast<std::size_t>(rows.batch), before);
  const cuda::row_norm_plan plan = cuda::plan_row_norms(rows.batch, rows.size);
  if (plan.parts == 0) {
    simt::run<cuda::add_row_norms_by_warp<U>>(plan.norms, rows, out.data());
    return out;
  }
  std::vector<double> partial(static_cast<std::size_t>(plan.scratch(rows.batch)), -1);
  simt::run<cuda::row_norm_parts<U>>(plan.norms, rows, plan.parts, plan.part_size, partial.data());
  simt::run<cuda::add_norm_parts<double>>(plan.sum, static_cast<const double*>(partial.data()), rows.batch, plan.parts,
                                          out.data());
  return out;
}

template <class U>
std::vector<double> norms_on_cpu(const simt::random_rows<U>& rows) {
  workspace scratch;
  std::vector<double> out(static_cast<std::size_t>(rows.batch), 0.0);
  rows.on_cpu().add_squared_norms({0, rows.batch}, out.data(), scratch);
  return out;
}

template <class U>
void check_sizes() {
  for (const isize size : {0, 1, 31, 32, 33, 255, 256, 257, 4097, 20001})
    for (const isize offset : {0, 1, 3}) {
      simt::random_rows<U> rows(3, size, offset == 3 ? 5 : 0, offset);
      INFO("size " << size << " offset " << offset);
      const auto norms = norms_of(rows.view());
      CHECK(simt::greatest_difference(norms, norms_on_cpu(rows)) < 1e-10);
      for (isize i = 0; i < 3; ++i) {
        long double exact = 0;
        for (isize k = 0; k < size; ++k) exact += static_cast<long double>(rows.row(i)[k]) * rows.row(i)[k];
        CHECK(norms[static_cast<std::size_t>(i)] >= exact);
      }
    }
}

} // namespace

TEST_CASE("cuda row norms: those of the CPU and upper bounds, for all sizes and alignments", "[cuda][row_norms]") {
  check_sizes<float>();
  check_sizes<double>();
}

TEST_CASE("cuda row norms: the same bits under every schedule, added to what is there", "[cuda][row_norms]") {
  for (const isize size : {77, 9000}) {
    simt::random_rows<float> rows(5, size);
    const auto once = norms_of(rows.view());
    simt::under_all_schedules([&] { CHECK(norms_of(rows.view()) == once); });
    const auto more = norms_of(rows.view(), 3.0);
    for (std::size_t i = 0; i < more.size(); ++i) CHECK(more[i] == once[i] + 3.0);
  }
}

TEST_CASE("cuda row norms: the parts of each row are added once, for every batch", "[cuda][row_norms]") {
  const auto check_batch = [](isize batch, unsigned blocks) {
    const isize parts = 3;
    const simt::random_rows<double> partial(batch, parts);
    std::vector<double> norms(static_cast<std::size_t>(batch) + 1, 0.5), expected = norms;
    for (isize i = 0; i < batch; ++i) {
      double sum = 0;
      for (isize j = 0; j < parts; ++j) sum += partial.memory[static_cast<std::size_t>(i * parts + j)];
      expected[static_cast<std::size_t>(i)] += upper_bound_of_sum(sum, parts);
    }
    INFO("batch " << batch);
    simt::under_all_schedules([&] {
      auto out = norms;
      simt::run<cuda::add_norm_parts<double>>({blocks, 64}, partial.memory.data(), batch, parts, out.data());
      CHECK(out == expected);
    });
  };
  for (const isize batch : simt::edge_sizes) check_batch(batch, 2); // fewer threads than rows
  check_batch(3001, 4);
}

TEST_CASE("cuda row norms: NaN and Inf stay in their row", "[cuda][row_norms]") {
  for (const isize size : {40, 9000}) {
    simt::random_rows<float> rows(4, size);
    rows.row(1)[size - 1] = std::numeric_limits<float>::quiet_NaN();
    rows.row(3)[size / 2] = -std::numeric_limits<float>::infinity();
    const auto norms = norms_of(rows.view());
    CHECK(std::isfinite(norms[0]));
    CHECK(std::isnan(norms[1]));
    CHECK(std::isfinite(norms[2]));
    CHECK(std::isinf(norms[3]));
  }
}

TEST_CASE("cuda row norms: bound rows whose squares underflow, and zeros have none", "[cuda][row_norms]") {
  for (const isize size : {33, 5000}) {
    simt::random_rows<double> rows(2, size);
    for (isize k = 0; k < size; ++k) rows.row(0)[k] = k == size - 1 ? 1e-170 : 0, rows.row(1)[k] = 0;
    const auto norms = norms_of(rows.view());
    CHECK(std::sqrt(norms[0]) >= 1e-170);
    CHECK(std::sqrt(norms[0]) < 1e-150);
    CHECK(norms[1] == 0);
  }
}

TEST_CASE("cuda row norms: nothing is launched for an empty batch", "[cuda][row_norms]") {
  CHECK(cuda::plan_row_norms(0, 100).norms.blocks == 0);
  CHECK(cuda::plan_row_norms(0, 100000).norms.blocks == 0);
}

TEST_CASE("cuda row norms: parts cover the row once", "[cuda][row_norms]") {
  for (const isize batch : {1, 7, 5000})
    for (const isize size : {4097, 8192, 100000, 10000000}) {
      const auto plan = cuda::plan_row_norms(batch, size);
      CHECK(plan.parts * plan.part_size >= size);
      CHECK((plan.parts - 1) * plan.part_size < size);
    }
}

TEST_CASE("cuda row norms: rows may be 2^32 elements apart", "[cuda][row_norms][far]") {
  constexpr isize far = (isize{1} << 32) + 64; // in 32 bits: 64, which is another place of the same memory
  constexpr std::size_t bytes = (static_cast<std::size_t>(far) + 128) * sizeof(float);
  const simt::far_memory memory(bytes);
  if (memory.data() == nullptr) {
    WARN("this machine does not lend so many addresses");
    return;
  }
  auto* const x = static_cast<float*>(memory.data());
  for (int k = 0; k < 32; ++k) x[k] = 1, x[far + k] = 2;
  const auto norms = norms_of(cuda::row_view<float>{x, 2, 32, far});
  CHECK(norms[0] == Approx(32));
  CHECK(norms[1] == Approx(128));
}

TEST_CASE("cuda row norms: each row once, also with fewer warps and blocks than rows", "[cuda][row_norms][tiny]") {
  simt::random_rows<float> rows(5, 70);
  const auto expected = norms_on_cpu(rows);
  std::vector<double> out(5), partial(10);
  simt::run<cuda::add_row_norms_by_warp<float>>({2, 32}, rows.view(), out.data());
  CHECK(simt::greatest_difference(out, expected) < 1e-10);
  simt::run<cuda::row_norm_parts<float>>({3, 64}, rows.view(), isize{2}, isize{64}, partial.data());
  for (std::size_t i = 0; i < 5; ++i) CHECK(partial[2 * i] + partial[2 * i + 1] == Approx(expected[i]));
}
