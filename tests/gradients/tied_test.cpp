// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/gradients/tied.hpp"

#include "dpopt/gradients/callback.hpp"
#include "dpopt/gradients/materialized.hpp"
#include "support/random_numbers.hpp"
#include "support/source_conformance.hpp"

#include <cmath>
#include <limits>
#include <vector>

using namespace dpopt;
using namespace dpopt::test;

namespace {

// Two uses of a [outputs x inputs] weight, and the sums of their gradients.
struct twice_used {
  isize batch, inputs, outputs;
  std::vector<float> a = random_numbers<float>(batch * inputs, 1);
  std::vector<float> e = random_numbers<float>(batch * outputs, 2);
  std::vector<float> b = random_numbers<float>(batch * inputs, 3);
  std::vector<float> f = random_numbers<float>(batch * outputs, 4);

  [[nodiscard]] linear_weight<float> first() const { return {a.data(), e.data(), batch, inputs, outputs}; }
  [[nodiscard]] linear_weight<float> second() const { return {b.data(), f.data(), batch, inputs, outputs}; }
  [[nodiscard]] written_out rows() const {
    written_out out(static_cast<std::size_t>(batch));
    for (isize i = 0; i < batch; ++i)
      for (isize o = 0; o < outputs; ++o)
        for (isize k = 0; k < inputs; ++k)
          out[static_cast<std::size_t>(i)].push_back(at(e, i, outputs, o) * at(a, i, inputs, k) +
                                                     at(f, i, outputs, o) * at(b, i, inputs, k));
    return out;
  }
  static long double at(const std::vector<float>& x, isize i, isize width, isize k) {
    return x[static_cast<std::size_t>(i * width + k)];
  }
};

} // namespace

TEST_CASE("tied: two uses are one source: their sum, with the norm of the sum") {
  for (const isize inputs : {1, 6, 130}) { // the last fills more than a tile
    const twice_used w{.batch = 4, .inputs = inputs, .outputs = 5};
    source_conforms(tied{w.first(), w.second()}, w.rows(), 1e-13);
  }
}

TEST_CASE("tied: the norm of two alike uses is twice the norm, and of opposite ones zero") {
  twice_used w{.batch = 3, .inputs = 7, .outputs = 4};
  w.b = w.a;
  w.f = w.e;
  const std::vector<double> once = squared_norms_of(w.first());
  const std::vector<double> doubled = squared_norms_of(tied{w.first(), w.second()});
  for (std::size_t i = 0; i < 3; ++i) CHECK(doubled[i] == Approx(4 * once[i]));
  for (float& x : w.f) x = -x;
  CHECK(squared_norms_of(tied{w.first(), w.second()}) == std::vector<double>(3, 0.0));
  CHECK(sum_of<float>(tied{w.first(), w.second()}, {1, 1, 1}) == std::vector<float>(28, 0.0F));
}

TEST_CASE("tied: uses that nearly cancel add no more than the norm of what is left") {
  // Each use is of norm 1e6, their sum near 1e-2: added one after the other in float they would leave errors near 0.1.
  for (int seed = 0; seed < 20; ++seed) {
    std::vector<double> a = random_numbers<double>(64, seed);
    std::vector<double> b = random_numbers<double>(64, seed + 100);
    for (std::size_t k = 0; k < 64; ++k) {
      a[k] *= 2e5;
      b[k] = 1e-3 * b[k] - a[k];
    }
    const tied source{materialized<double>(a.data(), 1, 64), materialized<double>(b.data(), 1, 64)};
    const double n = std::sqrt(squared_norms_of(source)[0]);
    CHECK(n < 0.1);
    CHECK(norm_of(sum_of<float>(source, {1})) <= static_cast<long double>(n));
    CHECK(norm_of(sum_of<float>(source, {1e-3 / n})) <= 1e-3L);
    CHECK(norm_of(sum_of<float>(source, {1e-3 / n})) >= 0.99e-3L);
  }
}

TEST_CASE("tied: more than two uses nest") {
  const twice_used w{.batch = 2, .inputs = 3, .outputs = 4};
  const std::vector<float> third = random_numbers<float>(2 * 12, 5);
  written_out rows = w.rows();
  for (std::size_t i = 0; i < 2; ++i)
    for (std::size_t k = 0; k < 12; ++k) rows[i][k] += static_cast<long double>(third[i * 12 + k]);
  const tied all{tied{w.first(), w.second()}, materialized<float>(third.data(), 2, 12)};
  STATIC_REQUIRE(sizeof(all) <= source_capacity);
  source_conforms(all, rows, 1e-13);
}

TEST_CASE("tied: a use that makes whole gradients is asked for whole ones") {
  int calls = 0;
  auto ones = [&calls](isize, double* g) {
    ++calls;
    for (int k = 0; k < 2000; ++k) g[k] = 1;
  };
  const std::vector<float> other(2000, 2.0F);
  const tied both{materialized<float>(other.data(), 1, 2000), callback(ones, 1, 2000)};
  CHECK(squared_norms_of(both)[0] == Approx(9 * 2000));
  CHECK(calls == 1);
}

TEST_CASE("tied: a number that is not finite in one use makes the norm so") {
  twice_used w{.batch = 2, .inputs = 3, .outputs = 2};
  w.f[2] = std::numeric_limits<float>::quiet_NaN();
  w.e[2] = std::numeric_limits<float>::infinity();
  const std::vector<double> squares = squared_norms_of(tied{w.first(), w.second()});
  CHECK(std::isfinite(squares[0]));
  CHECK_FALSE(std::isfinite(squares[1]));
  const std::vector<double> sum = sum_of<double>(tied{w.first(), w.second()}, {1, 0});
  for (std::size_t k = 0; k < 6; ++k) CHECK(sum[k] == Approx(static_cast<double>(w.rows()[0][k])));
}

TEST_CASE("tied: uses of different batches or sizes are a problem") {
  const std::vector<float> x(12);
  const materialized<float> usual(x.data(), 3, 4);
  CHECK(tied{usual, usual}.problem().empty());
  CHECK(tied{usual, materialized<float>(x.data(), 2, 4)}.problem() ==
        "tied: the two uses hold different numbers of samples; give both the same samples in the same order");
  CHECK(tied{usual, materialized<float>(x.data(), 3, 2)}.problem() ==
        "tied: the first use holds 4 elements a sample, the second 2; both must have the parameter's shape");
  CHECK_FALSE(tied{tied{usual, materialized<float>(x.data(), 2, 4)}, usual}.problem().empty());
  CHECK_FALSE(tied{usual, tied{usual, materialized<float>(x.data(), 2, 4)}}.problem().empty());
}
