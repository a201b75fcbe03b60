// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/noise/strategy_search.hpp"

#include "support/catch.hpp"

#include <cmath>
#include <limits>
#include <vector>

using namespace dpopt;

namespace {

double loss(const std::vector<double>& c, const run_plan& plan, prefix_error kind) {
  return strategy_loss(c, inverse_coefficients(c, static_cast<isize>(plan.releases)), plan, kind);
}

TEST_CASE("independent noise loses as many variances as there are releases") {
  CHECK(loss({1}, run_plan::once(20), prefix_error::max) == Approx(20));
  CHECK(loss({1}, run_plan::once(20), prefix_error::mean) == Approx(10.5));
  CHECK(loss({3}, run_plan::separated(20, 5, 2), prefix_error::max) == Approx(40)); // the scale does not matter
}

TEST_CASE("the minimizer finds the minimum of a narrow valley, and stays where there is nothing better") {
  const auto valley = [](const std::vector<double>& x) {
    return 100 * std::pow(x[1] - x[0] * x[0], 2) + std::pow(1 - x[0], 2);
  };
  const auto x = detail::minimize(valley, {-1.2, 1});
  CHECK(x[0] == Approx(1).epsilon(1e-4));
  CHECK(x[1] == Approx(1).epsilon(1e-4));
  CHECK(detail::minimize([](const std::vector<double>& at) { return at[0] * at[0]; }, {0}) == std::vector<double>{0});
  const auto fenced = [](const std::vector<double>& at) { // NaN outside
    return at[0] > 0.5 ? std::log(at[0]) + 1 / at[0] : std::numeric_limits<double>::quiet_NaN();
  };
  CHECK(detail::minimize(fenced, {7})[0] == Approx(1).epsilon(1e-4));
}

TEST_CASE("no small change of an optimum is better, under single and repeated participation and for both errors") {
  for (const run_plan& plan : {run_plan::once(60), run_plan::separated(60, 12), run_plan::cyclic(60, 12)})
    for (const prefix_error kind : {prefix_error::mean, prefix_error::max}) {
      const auto best = optimal_banded(plan, 4, kind);
      double norm = 0;
      for (const double c : best) norm += c * c;
      CHECK(norm == Approx(1));
      CHECK(loss(best, plan, kind) < loss(square_root_coefficients(4), plan, kind));
      for (std::size_t k = 0; k < 4; ++k)
        for (const double change : {-1e-3, 1e-3}) {
          auto other = best;
          other[k] += change;
          CHECK(loss(other, plan, kind) >= loss(best, plan, kind) * (1 - 1e-9));
        }
      const auto p = optimal_blt(plan, 2, kind);
      CHECK_NOTHROW(p.validate());
      const auto of = [&](const blt_parameters& q) { return loss(blt_coefficients(q, 60), plan, kind); };
      CHECK(of(p) < of(square_root_blt(2, 1 - 1.0 / 61)));
      CHECK(of(optimal_blt(plan, 3, kind)) <= of(p) * (1 + 1e-6)); // one buffer more is never worse
    }
}

TEST_CASE("the best banded strategy is no better than the square root, which is optimal for the largest error") {
  const double bound = loss(square_root_coefficients(40), run_plan::once(40), prefix_error::max);
  CHECK(loss(optimal_banded(run_plan::once(40), 40, prefix_error::max), run_plan::once(40), prefix_error::max) ==
        Approx(bound).epsilon(1e-6));
  CHECK(loss(optimal_banded(run_plan::once(40), 8, prefix_error::max), run_plan::once(40), prefix_error::max) > bound);
}

TEST_CASE("sizes out of range are refused") {
  CHECK(optimal_banded(run_plan::once(3), 10).size() == 3); // no more bands than releases
  CHECK(optimal_banded(run_plan::once(3), 1) == std::vector<double>{1});
  CHECK_THROWS_AS(optimal_banded(run_plan::once(3), 0), invalid_argument);
  CHECK_THROWS_AS(optimal_banded(run_plan{}, 2), invalid_argument);
  CHECK_THROWS_AS(optimal_blt(run_plan::once(3), 0), invalid_argument);
  CHECK_THROWS_AS(optimal_blt(run_plan::once(3), 9), invalid_argument);
}

} // namespace
