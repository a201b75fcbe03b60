// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/gradients/short_rows.hpp"

#include "dpopt/core/vector_dispatch.hpp"
#include "support/catch.hpp"
#include "support/random_numbers.hpp"

#include <algorithm>
#include <limits>
#include <memory>
#include <vector>

using namespace dpopt;
using test::random_numbers;

namespace {

constexpr isize count = 70; // more than are worked on together

template <class T>
std::vector<T> sum_at(vector_level level, const T* rows, isize stride, isize n, const std::vector<double>& factors) {
  std::vector<T> out = random_numbers<T>(n, 7);
  at_vector_level(level,
                  [from = rows, stride, n, f = factors.data(), to = out.data()](auto width)
                      DPOPT_FORCE_INLINE_LAMBDA { detail::add_short_rows(width, from, stride, n, f, count, to); });
  return out;
}

/// Row after row, number after number.
template <class T>
std::vector<T> in_order(const std::vector<T>& rows, isize stride, isize n, const std::vector<double>& factors) {
  std::vector<T> out = random_numbers<T>(n, 7);
  for (isize i = 0; i < count; ++i) {
    if (factors[static_cast<std::size_t>(i)] == 0) continue;
    const T scale = rounded_down<T>(factors[static_cast<std::size_t>(i)]);
    for (isize k = 0; k < n; ++k) {
      const volatile T product = scale * rows[static_cast<std::size_t>(i * stride + k)]; // never fused
      out[static_cast<std::size_t>(k)] += product;
    }
  }
  return out;
}

} // namespace

TEMPLATE_TEST_CASE("short rows: the bits of adding row after row, at every vector level that runs here", "", float,
                   double) {
  using T = TestType;
  std::vector<double> usual = random_numbers<double>(count, 2), unusual = usual;
  usual[9] = -usual[9];
  unusual[3] = 1e-42; // a subnormal float
  unusual[4] = 1e39;  // beyond the largest
  unusual[5] = std::numeric_limits<double>::denorm_min();
  for (const isize n : {0, 1, 3, 4, 8, 15, 16, 17, 31, 64, 77, 100, 256}) {
    const std::vector<T> rows = random_numbers<T>(count * (n + 3), 1);
    for (const auto& factors : {usual, unusual}) {
      const std::vector<T> expected = in_order(rows, n + 3, n, factors);
      for (const vector_level level : {vector_level::plain, vector_level::avx2, vector_level::avx512})
        if (runs_here(level)) CHECK(sum_at(level, rows.data(), n + 3, n, factors) == expected);
    }
  }
}

TEMPLATE_TEST_CASE("short rows: the same bits wherever rows begin in a cache line", "", float, double) {
  using T = TestType;
  constexpr isize line = 64 / sizeof(T), stride = 8 * line;
  const std::vector<double> factors = random_numbers<double>(count, 2);
  std::vector<T> room(static_cast<std::size_t>(count * stride + 2 * line));
  void* start = room.data();
  std::size_t left = room.size() * sizeof(T);
  T* const aligned = static_cast<T*>(std::align(64, 64, start, left));
  for (const isize n : {2 * line - 1, 2 * line, 3 * line + 1, 4 * line, 8 * line}) {
    const std::vector<T> rows = random_numbers<T>(count * stride, 1);
    const std::vector<T> expected = in_order(rows, stride, n, factors);
    for (const isize offset : {isize{0}, isize{1}, line / 2}) {
      std::copy(rows.begin(), rows.end(), aligned + offset);
      for (const vector_level level : {vector_level::plain, vector_level::avx2, vector_level::avx512})
        if (runs_here(level)) CHECK(sum_at(level, aligned + offset, stride, n, factors) == expected);
    }
  }
}

TEMPLATE_TEST_CASE("short rows: a row of factor 0 is not read", "", float, double) {
  using T = TestType;
  constexpr isize n = 37;
  std::vector<T> rows = random_numbers<T>(count * n, 3);
  std::vector<double> factors = random_numbers<double>(count, 4);
  for (const isize i : {0, 1, 20, 63, 64, 69}) {
    factors[static_cast<std::size_t>(i)] = 0;
    for (isize k = 0; k < n; ++k) rows[static_cast<std::size_t>(i * n + k)] = std::numeric_limits<T>::quiet_NaN();
  }
  CHECK(sum_at(best_vector_level(), rows.data(), n, n, factors) == in_order(rows, n, n, factors));
  CHECK(sum_at(best_vector_level(), rows.data(), n, n, std::vector<double>(count, 0.0)) == random_numbers<T>(n, 7));
}
