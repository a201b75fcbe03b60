// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/gradients/preconditioned.hpp"

#include "dpopt/gradients/materialized.hpp"
#include "dpopt/gradients/units.hpp"
#include "support/random_numbers.hpp"
#include "support/source_conformance.hpp"

#include <cmath>
#include <span>
#include <vector>

using namespace dpopt;
using namespace dpopt::test;

TEST_CASE("preconditioned: norm and sum are those of the divided gradient, and 0 divides by 1") {
  const std::vector<float> rows = random_numbers<float>(4 * 600, 1);
  std::vector<double> divisors(600);
  for (std::size_t k = 0; k < 600; ++k) divisors[k] = k % 5 == 0 ? 0.0 : std::pow(10.0, static_cast<double>(k % 7) - 3);
  written_out divided(4);
  for (std::size_t i = 0; i < 4; ++i)
    for (std::size_t k = 0; k < 600; ++k)
      divided[i].push_back(static_cast<long double>(rows[i * 600 + k]) /
                           static_cast<long double>(divisors[k] == 0 ? 1.0 : divisors[k]));
  source_conforms(preconditioned(materialized<float>(rows.data(), 4, 600), std::span<const double>(divisors)), divided);
}

TEST_CASE("preconditioned: factored sources are divided element by element") {
  const std::vector<float> a = {1, 2, 3};
  const std::vector<float> e = {10, 20};
  const std::vector<float> divisors = {1, 2, 4, 0.5, 0, 8};
  const linear_weight<float> layer{a.data(), e.data(), 1, 3, 2};
  source_conforms(preconditioned(layer, std::span<const float>(divisors)), {{10, 10, 7.5, 40, 40, 7.5}});
}

TEST_CASE("preconditioned: one divisor an element, or a problem that says so") {
  const std::vector<float> rows(6);
  const std::vector<float> divisors(3);
  const std::span<const float> three(divisors);
  CHECK(preconditioned(materialized<float>(rows.data(), 2, 3), three).problem().empty());
  CHECK(preconditioned(materialized<float>(rows.data(), 3, 2), three).problem() ==
        "preconditioned: 3 divisors for 2 elements; give one an element");
  const auto bad = averaged_views(materialized<float>(rows.data(), 2, 3), 4);
  CHECK(preconditioned(bad, three).problem() == bad.problem());
}
