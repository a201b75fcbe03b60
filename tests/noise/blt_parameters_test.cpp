// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/noise/blt_parameters.hpp"

#include "dpopt/noise/toeplitz.hpp"
#include "support/catch.hpp"

#include <vector>

using namespace dpopt;

namespace {

void check_alike(const std::vector<double>& a, const std::vector<double>& b, double margin = 1e-12) {
  REQUIRE(a.size() == b.size());
  for (std::size_t t = 0; t < a.size(); ++t) CHECK(a[t] == Approx(b[t]).margin(margin));
}

TEST_CASE("coefficients are sums of geometric sequences after a first 1") {
  const blt_parameters p{{0.9, 0.5}, {0.2, 0.3}};
  check_alike(blt_coefficients(p, 4), {1, 0.5, 0.2 * 0.9 + 0.3 * 0.5, 0.2 * 0.81 + 0.3 * 0.25}, 1e-15);
  CHECK(blt_coefficients({}, 3) == std::vector<double>{1, 0, 0});
}

TEST_CASE("the recursion and the parameters of the inverse agree with inverting the coefficients") {
  for (const blt_parameters& p : {blt_parameters{{0.9, 0.5}, {0.2, 0.3}},
                                  {{0.5, 0.9, -0.3}, {0.3, 0.2, 0.05}},
                                  {{0.999, 0.99, 0.9, 0.4}, {0.01, 0.05, 0.1, 0.3}},
                                  {{0.7, 0.2}, {-0.1, -0.4}},
                                  {{1}, {0.5}}}) {
    const auto w = inverse_coefficients(blt_coefficients(p, 60), 60);
    check_alike(blt_inverse_coefficients(p, 60), w);
    const blt_parameters q = inverse(p);
    for (std::size_t j = 1; j < q.decay.size(); ++j) CHECK(q.decay[j - 1] > q.decay[j]);
    check_alike(blt_coefficients(q, 60), w);
  }
}

TEST_CASE("an inverse with an oscillating buffer is found too") {
  const blt_parameters p{{0.2, 0.1}, {0.6, 0.3}}; // scale over decay adds up to more than 1
  const blt_parameters q = inverse(p);
  CHECK(q.decay.back() < 0);
  check_alike(blt_coefficients(q, 40), inverse_coefficients(blt_coefficients(p, 40), 40));
}

TEST_CASE("the rational approximation comes near the square root, within 13 % with 8 buffers") {
  const auto c = square_root_coefficients(30);
  const auto ours = blt_coefficients(square_root_blt(8, 1), 30);
  for (std::size_t t = 0; t < 30; ++t) CHECK(ours[t] == Approx(c[t]).epsilon(0.13));
  CHECK(square_root_blt(3, 0.99).decay.front() <= 0.99);
  for (isize buffers = 1; buffers <= 12; ++buffers) CHECK_NOTHROW(square_root_blt(buffers).validate());
  CHECK_THROWS_AS(square_root_blt(0), invalid_argument);
  CHECK_THROWS_AS(square_root_blt(13), invalid_argument);
  CHECK_THROWS_AS(square_root_blt(2, 1.5), invalid_argument);
}

TEST_CASE("parameters that do not make a BLT are refused by name") {
  const auto problem = [](const blt_parameters& p) { p.validate(); };
  CHECK_NOTHROW(problem({}));
  CHECK_THROWS_WITH(problem({{0.5}, {}}), contains_text("1 decays but 0 scales"));
  CHECK_THROWS_WITH(problem({{1.5}, {1}}), contains_text("decay 0 is 1.5"));
  CHECK_THROWS_WITH(problem({{0.5, 0.4}, {1, -1}}), contains_text("scale 1 is -1"));
  CHECK_THROWS_WITH(problem({{0.5, 0.5}, {1, 1}}), contains_text("decays 0 and 1 are equal"));
}

} // namespace
