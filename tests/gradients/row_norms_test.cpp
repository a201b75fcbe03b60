// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/gradients/row_norms.hpp"

#include "support/catch.hpp"
#include "support/random_numbers.hpp"

#include <cmath>
#include <limits>
#include <vector>

using namespace dpopt;
using test::random_numbers;

namespace {

constexpr isize rows = 70; // more than are worked on together

std::vector<double> sums_at(vector_level level, const std::vector<float>& x, isize stride, isize n) {
  std::vector<double> out(static_cast<std::size_t>(rows), -1.0);
  double* const to = out.data();
  const float* const from = x.data();
  at_vector_level(level, [=](auto width) DPOPT_FORCE_INLINE_LAMBDA {
    detail::square_sums_of_rows(width, from, stride, rows, n, to);
  });
  return out;
}

} // namespace

TEST_CASE("row norms: the same bits at every vector level that runs here, for rows of any length") {
  for (const isize n : {0, 1, 2, 3, 4, 7, 8, 14, 15, 16, 17, 31, 64, 100, 1024, 1040, 3001}) {
    const std::vector<float> x = random_numbers<float>(rows * (n + 3), 1);
    const std::vector<double> plain = sums_at(vector_level::plain, x, n + 3, n);
    for (const vector_level level : {vector_level::avx2, vector_level::avx512})
      if (runs_here(level)) CHECK(sums_at(level, x, n + 3, n) == plain);
  }
}

TEST_CASE("row norms: bounds on the exact ones, close to them, added to what is there; NaN stays NaN") {
  for (const isize n : {1, 7, 16, 77, 2000}) {
    std::vector<float> x = random_numbers<float>(rows * n, 2);
    x[0] = std::numeric_limits<float>::denorm_min();
    if (n > 1) x.back() = std::numeric_limits<float>::max();
    std::vector<double> norms(static_cast<std::size_t>(rows), 0.0);
    add_row_norms(x.data(), n, rows, n, norms.data());
    for (isize i = 0; i < rows; ++i) {
      long double exact = 0;
      for (isize k = 0; k < n; ++k) {
        const long double v = static_cast<long double>(x[static_cast<std::size_t>(i * n + k)]);
        exact += v * v;
      }
      CHECK(static_cast<long double>(norms[static_cast<std::size_t>(i)]) >= exact);
      CHECK(static_cast<long double>(norms[static_cast<std::size_t>(i)]) <= exact * (1 + 1e-12L));
    }
    x[static_cast<std::size_t>(n - 1)] = NAN;
    const double second = norms[1];
    add_row_norms(x.data(), n, 2, n, norms.data());
    CHECK(std::isnan(norms[0]));
    CHECK(norms[1] == 2 * second);
  }
}
