// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "support/catch.hpp"

#include "dpopt/eigen/eigen.hpp"

#include <vector>

using namespace dpopt;

namespace {

/// g_i in the storage order of W, by the definition of the gradient of y = W x.
template <class Weight>
std::vector<double> brute_force(const Eigen::MatrixXd& a, const Eigen::MatrixXd& e, Eigen::Index sample) {
  Weight g = e.col(sample) * a.col(sample).transpose();
  return {g.data(), g.data() + g.size()};
}

template <class Weight>
void linear_matches_its_definition() {
  Eigen::MatrixXd a(3, 4), e(2, 4); // a sample a column
  for (Eigen::Index i = 0; i < a.size(); ++i) a.data()[i] = 0.5 * static_cast<double>(i) - 2;
  for (Eigen::Index i = 0; i < e.size(); ++i) e.data()[i] = 1.0 / static_cast<double>(i + 1);
  const auto source = eigen::linear<Weight>(a, e);
  REQUIRE(source.batch() == 4);
  REQUIRE(source.size() == 6);
  for (Eigen::Index i = 0; i < 4; ++i) {
    std::vector<double> got(6);
    source.copy_sample(i, 0, 6, 1.0, got.data());
    const auto expected = brute_force<Weight>(a, e, i);
    for (std::size_t k = 0; k < 6; ++k) CHECK(got[k] == Approx(expected[k]).epsilon(1e-14));
  }
}

} // namespace

TEST_CASE("eigen: a linear layer's gradients come in the storage order of its weight") {
  linear_matches_its_definition<Eigen::MatrixXd>();
  linear_matches_its_definition<Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>>();
}

TEST_CASE("eigen: parameters are views of the matrix itself") {
  Eigen::MatrixXf w = Eigen::MatrixXf::Zero(2, 3), g = w;
  const auto p = eigen::parameter("w", w, g);
  CHECK(p.name == "w");
  REQUIRE(p.value.size() == 6);
  p.value[1] = 7;
  p.gradient[2] = 5;
  CHECK(w(1, 0) == 7.0f);
  CHECK(g(0, 1) == 5.0f);
  CHECK(eigen::parameter("w", w).gradient.empty());
}

TEST_CASE("eigen: samples are columns of column-major and rows of row-major matrices") {
  Eigen::MatrixXf columns(3, 2);
  columns << 1, 4, 2, 5, 3, 6;
  const auto by_column = eigen::per_sample(columns);
  CHECK(by_column.batch() == 2);
  CHECK(by_column.size() == 3);
  Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor> rows(2, 3);
  rows << 1, 2, 3, 4, 5, 6;
  const auto by_row = eigen::per_sample(rows);
  CHECK(by_row.batch() == 2);
  double second[3];
  by_row.copy_sample(1, 0, 3, 1.0, second);
  CHECK(second[2] == 6.0);
  by_column.copy_sample(1, 0, 3, 1.0, second);
  CHECK(second[0] == 4.0);
}
