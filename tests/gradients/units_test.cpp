// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/gradients/units.hpp"

#include "dpopt/gradients/callback.hpp"
#include "dpopt/gradients/tied.hpp"
#include "support/random_numbers.hpp"
#include "support/source_conformance.hpp"

#include <cmath>
#include <limits>
#include <span>
#include <string>
#include <vector>

using namespace dpopt;
using namespace dpopt::test;

namespace {

// scale x the sum of each unit's rows.
written_out summed(const std::vector<float>& rows, isize size, const std::vector<isize>& offsets, long double scale) {
  written_out out;
  for (std::size_t u = 0; u + 1 < offsets.size(); ++u) {
    std::vector<long double>& sum = out.emplace_back(static_cast<std::size_t>(size), 0.0L);
    for (isize r = offsets[u]; r < offsets[u + 1]; ++r)
      for (isize k = 0; k < size; ++k)
        sum[static_cast<std::size_t>(k)] += static_cast<long double>(rows[static_cast<std::size_t>(r * size + k)]);
    for (long double& x : sum) x *= scale;
  }
  return out;
}

std::string problem_of(const std::vector<isize>& offsets, double scale = 1) {
  static const std::vector<float> x(12);
  return units(materialized<float>(x.data(), 6, 2), offsets, scale).problem();
}

} // namespace

TEST_CASE("units: a unit is the scaled sum of its records, however many they are") {
  const std::vector<isize> offsets = {0, 3, 3, 4, 9}; // the second unit is empty
  for (const isize size : {1, 5, 700}) {
    const std::vector<float> rows = random_numbers<float>(9 * size, 1);
    const materialized<float> records(rows.data(), 9, size);
    source_conforms(units(records, offsets), summed(rows, size, offsets, 1), 1e-13);
    source_conforms(units(records, offsets, -0.3), summed(rows, size, offsets, -0.3), 1e-13);
    auto write = [&](isize r, double* g) { records.copy_sample(r, 0, size, 1.0, g); };
    source_conforms(units(callback(write, 9, size), offsets), summed(rows, size, offsets, 1), 1e-13);
  }
}

TEST_CASE("units of factored and of tied records are sums of theirs") {
  const std::vector<float> a = random_numbers<float>(6 * 3, 1);
  const std::vector<float> e = random_numbers<float>(6 * 2, 2);
  const linear_weight<float> records{a.data(), e.data(), 6, 3, 2};
  const std::vector<isize> offsets = {0, 1, 6};
  written_out rows(2, std::vector<long double>(6, 0.0L));
  for (isize r = 0; r < 6; ++r) {
    double g[6];
    records.copy_sample(r, 0, 6, 1.0, g);
    for (std::size_t k = 0; k < 6; ++k) rows[r < 1 ? 0 : 1][k] += static_cast<long double>(g[k]);
  }
  source_conforms(units(records, offsets), rows, 1e-13);
  for (auto& row : rows)
    for (long double& x : row) x *= 2;
  STATIC_REQUIRE(PerSampleGradients<units<tied<linear_weight<float>, linear_weight<float>>>, float>);
  source_conforms(units(tied{records, records}, offsets), rows, 1e-13);
}

TEST_CASE("units: augmented views are averaged before anything is clipped") {
  const std::vector<float> rows = random_numbers<float>(4 * 3 * 5, 3);
  const materialized<float> views(rows.data(), 12, 5);
  const auto mean = averaged_views(views, 3);
  CHECK(mean.batch() == 4);
  CHECK(mean.problem().empty());
  source_conforms(mean, summed(rows, 5, {0, 3, 6, 9, 12}, 1.0L / 3), 1e-13);
  CHECK(averaged_views(views, 5).problem() ==
        "units: the records do not make whole units of 5; hand over all views of every sample");
  CHECK(averaged_views(views, 0).problem() == "units: 0 records a unit; give 1 or more");
}

TEST_CASE("units: records of a unit that nearly cancel add no more than the norm of what is left") {
  for (int seed = 0; seed < 20; ++seed) {
    std::vector<double> rows = random_numbers<double>(2 * 64, seed);
    for (std::size_t k = 0; k < 64; ++k) {
      rows[k] *= 2e5;
      rows[64 + k] = 1e-3 * rows[64 + k] - rows[k];
    }
    const std::vector<isize> offsets = {0, 2};
    const units unit(materialized<double>(rows.data(), 2, 64), offsets);
    const double n = std::sqrt(squared_norms_of(unit)[0]);
    CHECK(n < 0.1);
    CHECK(norm_of(sum_of<float>(unit, {1})) <= static_cast<long double>(n));
    CHECK(norm_of(sum_of<float>(unit, {1e-3 / n})) <= 1e-3L);
  }
}

TEST_CASE("units: one record that is not finite makes its unit so, and no other") {
  std::vector<float> rows = random_numbers<float>(6 * 2, 1);
  rows[3 * 2 + 1] = GENERATE(std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity());
  const std::vector<isize> offsets = {0, 2, 5, 6};
  const units source(materialized<float>(rows.data(), 6, 2), offsets);
  const std::vector<double> squares = squared_norms_of(source);
  CHECK(std::isfinite(squares[0]));
  CHECK_FALSE(std::isfinite(squares[1]));
  CHECK(std::isfinite(squares[2]));
  const std::vector<double> sum = sum_of<double>(source, {1, 0, 1});
  CHECK(sum[0] == Approx(static_cast<double>(rows[0] + rows[2] + rows[10])));
}

TEST_CASE("units: no units, and units without records, are valid") {
  const materialized<float> none(nullptr, 0, 3);
  const std::vector<isize> no_units = {0};
  const std::vector<isize> empty_units = {0, 0, 0};
  CHECK(units(none, no_units).batch() == 0);
  CHECK(units(none, no_units).problem().empty());
  CHECK(units(none, no_units).block() >= 1);
  const units empty(none, empty_units);
  CHECK(empty.problem().empty());
  CHECK(empty.block() >= 1);
  CHECK(squared_norms_of(empty) == std::vector<double>{0, 0});
  CHECK(sum_of<float>(empty, {1, 1}) == std::vector<float>{0, 0, 0});
  CHECK(averaged_views(none, 4).problem().empty());
}

TEST_CASE("units: offsets that do not divide the records among units are a problem") {
  CHECK(problem_of({0, 2, 2, 6}).empty());
  CHECK(problem_of({}) == "units: no offsets; give one more than there are units");
  CHECK(problem_of({1, 6}) == "units: the first offset is not 0, where the first unit begins");
  CHECK(problem_of({0, 4, 3, 6}) == "units: an offset is below the one before it; sort the records by unit");
  CHECK(problem_of({0, 5}) == "units: the last offset is not the number of records; every record belongs to a unit");
  CHECK(problem_of({0, 7}) == problem_of({0, 5}));
  CHECK(problem_of({0, 6}, std::numeric_limits<double>::infinity()) == "units: scale is inf; give a finite number");
  const std::vector<float> x(12);
  const std::vector<isize> all = {0, 2};
  const tied wrong{materialized<float>(x.data(), 3, 2), materialized<float>(x.data(), 2, 2)};
  CHECK(units(wrong, all).problem() == wrong.problem());
}
