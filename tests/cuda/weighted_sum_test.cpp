// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "support/simt/rows.hpp"

#include "dpopt/cuda/weighted_sum.cuh"
#include "support/catch.hpp"

#include <limits>
#include <vector>

using namespace dpopt;

namespace {

/// Both sums on top of 1/4, with room around them that must stay as it is. Equal bits.
template <class U, class Out>
void check(const simt::random_rows<U>& rows, const std::vector<double>& factors, isize out_offset = 0) {
  const std::vector<Out> before(static_cast<std::size_t>(out_offset + rows.size + 3), Out(0.25));
  std::vector<Out> expected = before, out = before;
  workspace scratch;
  rows.on_cpu().add_weighted_sum({0, rows.batch}, factors.data(), expected.data() + out_offset, scratch);
  simt::run<cuda::add_weighted_rows<U, Out>>(cuda::weighted_rows_shape<U>(rows.batch, rows.size), rows.view(),
                                             factors.data(), out.data() + out_offset);
  INFO("batch " << rows.batch << " size " << rows.size << " stride " << rows.stride << " offset " << rows.offset);
  CHECK(out == expected);
}

} // namespace

TEST_CASE("cuda weighted sum: the bits of the CPU for all sizes and alignments", "[cuda][weighted_sum]") {
  for (const isize size : simt::edge_sizes)
    for (const isize offset : {0, 1}) {
      const simt::random_rows<float> rows(5, size, offset == 0 ? (4 - size % 4) % 4 : 3, offset);
      check<float, float>(rows, simt::random_factors(5), offset);
      check<float, double>(rows, simt::random_factors(5), offset);
      const simt::random_rows<double> wide(4, size, offset, offset);
      check<double, double>(wide, simt::random_factors(4), 1 - offset);
      check<double, float>(wide, simt::random_factors(4), 1 - offset);
    }
  check<float, float>({3, 3000}, simt::random_factors(3));
}

TEST_CASE("cuda weighted sum: batches beyond the factors that a block holds, in every schedule",
          "[cuda][weighted_sum]") {
  const simt::random_rows<float> rows(2 * cuda::staged_factors + 7, 70);
  simt::under_all_schedules([&] { check<float, float>(rows, simt::random_factors(rows.batch)); });
}

TEST_CASE("cuda weighted sum: a sample of factor 0 is not read", "[cuda][weighted_sum]") {
  for (const isize size : {33, 256}) {
    simt::random_rows<float> rows(4, size);
    for (isize k = 0; k < size; ++k) rows.row(1)[k] = std::numeric_limits<float>::quiet_NaN();
    check<float, float>(rows, simt::random_factors(4)); // factor 1 is 0; NaN would not compare equal
  }
}

TEST_CASE("cuda weighted sum: no sample exceeds factor times gradient", "[cuda][weighted_sum]") {
  const std::vector<double> factors{1.0 / 3};
  simt::random_rows<float> rows(1, 200);
  std::vector<float> out(200);
  simt::run<cuda::add_weighted_rows<float, float>>(cuda::weighted_rows_shape<float>(1, 200), rows.view(),
                                                   factors.data(), out.data());
  for (isize k = 0; k < 200; ++k)
    CHECK(std::abs(static_cast<double>(out[static_cast<std::size_t>(k)])) <=
          factors[0] * std::abs(static_cast<double>(rows.row(0)[k])));
}

TEST_CASE("cuda weighted sum: nothing is launched for an empty batch or parameter", "[cuda][weighted_sum]") {
  CHECK(cuda::weighted_rows_shape<float>(0, 100).blocks == 0);
  CHECK(cuda::weighted_rows_shape<float>(3, 0).blocks == 0);
}

TEST_CASE("cuda weighted sum: two blocks of columns", "[cuda][weighted_sum][tiny]") {
  const simt::random_rows<float> rows(300, 130);
  const auto factors = simt::random_factors(300);
  std::vector<float> out(130), expected(130);
  workspace scratch;
  rows.on_cpu().add_weighted_sum({0, 300}, factors.data(), expected.data(), scratch);
  simt::run<cuda::add_weighted_rows<float, float>>({2, 32}, rows.view(), factors.data(), out.data());
  CHECK(out == expected);
}
