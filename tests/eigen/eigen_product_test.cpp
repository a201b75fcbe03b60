// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/eigen/eigen_product.hpp"

#include "dpopt/gradients/linear_sequence.hpp"
#include "dpopt/gradients/linear_weight.hpp"
#include "support/random_numbers.hpp"
#include "support/source_conformance.hpp"

#include <cmath>
#include <vector>

using namespace dpopt;
using namespace dpopt::test;

TEST_CASE("eigen_product: weighted sums are those of the portable product, without the rows of factor 0") {
  constexpr isize batch = 5, positions = 3, inputs = 9, outputs = 4;
  std::vector<float> a = random_numbers<float>(batch * positions * inputs, 1);
  const std::vector<float> e = random_numbers<float>(batch * positions * outputs, 2);
  a[positions * inputs] = NAN; // of sample 1, and of row 3
  std::vector<double> factors = {1, 0, 0.25, -2, 0.5};
  const std::vector<float> ours = sum_of<float>(linear_sequence<float>{a.data(), e.data(), batch, 3, 9, 4}, factors);
  const std::vector<float> eigens = sum_of<float>(
      linear_sequence<float, eigen::eigen_product>{a.data(), e.data(), batch, positions, inputs, outputs}, factors);
  for (std::size_t k = 0; k < ours.size(); ++k) CHECK(eigens[k] == Approx(ours[k]).epsilon(1e-5).margin(1e-6));
  factors = {1, 0.5, 1, 0, 1};
  const linear_weight<float> one{a.data(), e.data(), batch, inputs, outputs};
  const linear_weight<float, eigen::eigen_product> other{a.data(), e.data(), batch, inputs, outputs};
  const std::vector<double> expected = sum_of<double>(one, factors), got = sum_of<double>(other, factors);
  for (std::size_t k = 0; k < got.size(); ++k) CHECK(got[k] == Approx(expected[k]).epsilon(1e-12).margin(1e-13));
}

TEST_CASE("eigen_product: products of positions as columns are those of the portable product") {
  constexpr isize m = 5, n = 7, count = 30;
  const std::vector<float> a = random_numbers<float>(m * (count + 1), 1), b = random_numbers<float>(n * count, 2);
  std::vector<float> ours = random_numbers<float>(m * (n + 1), 3), eigens = ours;
  workspace w;
  const strided_rows<const float> left{a.data(), count + 1}, right{b.data(), count};
  portable_product{}.add_transposed(m, n, count, left, right, strided_rows<float>{ours.data(), n + 1}, w);
  eigen::eigen_product{}.add_transposed(m, n, count, left, right, strided_rows<float>{eigens.data(), n + 1}, w);
  for (std::size_t k = 0; k < ours.size(); ++k) CHECK(eigens[k] == Approx(ours[k]).epsilon(1e-5).margin(1e-5));
}
