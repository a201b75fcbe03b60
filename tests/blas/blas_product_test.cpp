// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/blas/blas_product.hpp"

#include "dpopt/gradients/linear_sequence.hpp"
#include "support/random_numbers.hpp"
#include "support/source_conformance.hpp"

#include <array>
#include <cmath>
#include <vector>

using namespace dpopt;
using namespace dpopt::test;

namespace {

/// Operands and result in rows longer than they need be: what lies between them stays as it was.
template <class T>
void equals_portable(double tolerance) {
  for (const auto& [m, n, count] :
       {std::array<isize, 3>{1, 1, 1}, {0, 3, 2}, {3, 0, 2}, {3, 4, 0}, {5, 33, 7}, {17, 70, 300}}) {
    const std::vector<T> a = random_numbers<T>(count * (m + 3), 1), b = random_numbers<T>(count * (n + 1), 2);
    std::vector<T> ours = random_numbers<T>(m * (n + 2), 3), theirs = ours;
    const strided_rows<const T> left{a.data(), m + 3}, right{b.data(), n + 1};
    workspace w;
    portable_product{}.add(m, n, count, left, right, strided_rows<T>{ours.data(), n + 2}, w);
    blas::blas_product{}.add(m, n, count, left, right, strided_rows<T>{theirs.data(), n + 2}, w);
    for (std::size_t k = 0; k < ours.size(); ++k)
      CHECK(std::abs(static_cast<double>(ours[k] - theirs[k])) <= tolerance);
    // Positions as columns: [m x count] and [n x count].
    const std::vector<T> wide_a = random_numbers<T>(m * (count + 1), 4), wide_b = random_numbers<T>(n * (count + 2), 5);
    const strided_rows<const T> above{wide_a.data(), count + 1}, below{wide_b.data(), count + 2};
    portable_product{}.add_transposed(m, n, count, above, below, strided_rows<T>{ours.data(), n + 2}, w);
    blas::blas_product{}.add_transposed(m, n, count, above, below, strided_rows<T>{theirs.data(), n + 2}, w);
    for (std::size_t k = 0; k < ours.size(); ++k)
      CHECK(std::abs(static_cast<double>(ours[k] - theirs[k])) <= 2 * tolerance);
    for (isize r = 0; r < m; ++r) // beyond n, equal to the bit
      for (isize c = n; c < n + 2; ++c) {
        const auto k = static_cast<std::size_t>(r * (n + 2) + c);
        CHECK(ours[k] == theirs[k]);
      }
  }
}

} // namespace

TEST_CASE("blas_product: equals the portable product up to rounding, in strided rows, and touches nothing beside") {
  equals_portable<float>(3e-5); // 300 rows of numbers below 1: at most 301 roundings of 2^-24 x 300, usually 1e-6
  equals_portable<double>(1e-13);
}

TEST_CASE("blas_product: a size that int cannot hold is the portable product's") {
  // One row, whose stride is never used.
  const float a = 3, b = 5;
  float out = 1;
  workspace w;
  const isize wide = isize{1} << 40;
  blas::blas_product{}.add(1, 1, 1, strided_rows<const float>{&a, wide}, strided_rows<const float>{&b, wide},
                           strided_rows<float>{&out, wide}, w);
  CHECK(out == 16);
}

TEST_CASE("blas_product: rows that overlap or go backwards are the portable product's") {
  const std::vector<double> a = random_numbers<double>(20, 1), b = random_numbers<double>(40, 2);
  constexpr isize m = 3, n = 4, count = 5;
  for (const isize stride : {isize{2}, isize{0}, isize{-3}}) { // of rows of 4: windows, one row for all, backwards
    const strided_rows<const double> left{a.data(), m}, right{b.data() + 12, stride};
    std::vector<double> ours(m * n, 0.0), theirs = ours;
    workspace w;
    portable_product{}.add(m, n, count, left, right, strided_rows<double>{ours.data(), n}, w);
    blas::blas_product{}.add(m, n, count, left, right, strided_rows<double>{theirs.data(), n}, w);
    CHECK(theirs == ours);
  }
}

TEST_CASE("blas_product: rows of factor 0 are left out, and no sample adds more than its norm says") {
  constexpr isize batch = 3, positions = 8, inputs = 9, outputs = 7;
  for (const float left : {1.0F, 1e-4F, 0.0F}) { // the second half of the positions takes back all but this
    std::vector<float> a = random_numbers<float>(batch * positions * inputs, 1);
    std::vector<float> e = random_numbers<float>(batch * positions * outputs, 2);
    for (isize i = 0; i < batch; ++i)
      for (isize t = 4; t < positions; ++t) {
        for (isize k = 0; k < inputs; ++k)
          a[static_cast<std::size_t>((i * positions + t) * inputs + k)] =
              a[static_cast<std::size_t>((i * positions + t - 4) * inputs + k)];
        for (isize k = 0; k < outputs; ++k)
          e[static_cast<std::size_t>((i * positions + t) * outputs + k)] =
              (left - 1) * e[static_cast<std::size_t>((i * positions + t - 4) * outputs + k)];
      }
    a[positions * inputs] = NAN; // of sample 1
    using ours = linear_sequence<float>;
    using theirs = linear_sequence<float, blas::blas_product>;
    const ours expected{a.data(), e.data(), batch, positions, inputs, outputs};
    const theirs s{a.data(), e.data(), batch, positions, inputs, outputs};
    const std::vector<double> squares = squared_norms_of(s);
    CHECK_FALSE(std::isfinite(squares[1]));
    for (const std::size_t i : {0u, 2u})
      for (const double factor : {1.0, 0.1 / std::sqrt(squares[i])}) {
        std::vector<double> only(3, 0.0);
        only[i] = factor;
        const std::vector<float> sum = sum_of<float>(s, only), same = sum_of<float>(expected, only);
        CHECK(norm_of(sum) <= static_cast<long double>(factor * std::sqrt(squares[i])));
        for (std::size_t k = 0; k < sum.size(); ++k)
          if (!(std::abs(sum[k] - same[k]) <= 1e-5 * factor)) CHECK(sum[k] == Approx(same[k]));
      }
  }
}
