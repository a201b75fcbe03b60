// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/core/schedules.hpp"

#include "support/catch.hpp"

#include <cmath>
#include <cstdint>
#include <limits>

using namespace dpopt;

namespace {
constexpr double nan_value = std::numeric_limits<double>::quiet_NaN();
constexpr double infinite = std::numeric_limits<double>::infinity();
} // namespace

TEST_CASE("exponential decay multiplies by gamma each step") {
  const exponential_decay s{0.9};
  CHECK(s(0) == 1);
  CHECK(s(1) == 0.9);
  CHECK(s(7) == Approx(std::pow(0.9, 7)).epsilon(1e-14));
  CHECK(s.greatest() == 1);
  CHECK(exponential_decay{1.01}.greatest() == infinite);
}

TEST_CASE("step decay multiplies by gamma every so many steps") {
  const step_decay s{3, 0.5};
  const double expected[] = {1, 1, 1, 0.5, 0.5, 0.5, 0.25};
  for (std::uint64_t t = 0; t < 7; ++t) CHECK(s(t) == expected[t]);
  CHECK(s.greatest() == 1);
  CHECK(step_decay{3, 2}.greatest() == infinite);
}

TEST_CASE("cosine decay goes from 1 to its floor and stays there") {
  const cosine_decay s{8, 0.2};
  CHECK(s(0) == 1);
  CHECK(s(4) == Approx(0.6).epsilon(1e-14));
  CHECK(s(2) == Approx(0.2 + 0.8 * (1 + std::sqrt(0.5)) / 2).epsilon(1e-14));
  CHECK(s(8) == 0.2);
  CHECK(s(1000) == 0.2);
  for (std::uint64_t t = 0; t < 8; ++t) CHECK(s(t) > s(t + 1));
  CHECK(s.greatest() == 1);
  CHECK(cosine_decay{8, 3}(9) == 3);
  CHECK(cosine_decay{8, 3}.greatest() == 3);
}

TEST_CASE("a function of the step is a schedule") {
  const lambda_schedule s{[](std::uint64_t t) { return 1.0 / static_cast<double>(t + 1); }, 1};
  CHECK(s(3) == 0.25);
  CHECK(s.greatest() == 1);
  CHECK(lambda_schedule{[](std::uint64_t) { return 1.0; }}.greatest() == infinite);
}

TEST_CASE("a value that is no finite number above 0, or above what was declared, is refused by step") {
  CHECK(value_at(exponential_decay{0.5}, 3) == 0.125);
  CHECK_THROWS_AS(value_at(exponential_decay{0.5}, 2000), invalid_argument); // underflows
  CHECK_THROWS_WITH(value_at(exponential_decay{0.5}, 2000),
                    "schedule exponential_decay(gamma=0.5) gives 0 at step 2000; it must "
                    "stay a finite number above 0 and not exceed 1");
  CHECK_THROWS_AS(value_at(exponential_decay{2}, 2000), invalid_argument); // overflows
  for (const double bad : {nan_value, infinite, 0.0, -1.0, 2.0})
    CHECK_THROWS_AS(value_at(lambda_schedule{[bad](std::uint64_t) { return bad; }, 1.5}, 0), invalid_argument);
}

TEST_CASE("options are validated, and what is missing is named") {
  CHECK_THROWS_WITH(exponential_decay{}.validate(), "exponential_decay: gamma is nan; give a finite number above 0");
  CHECK_THROWS_WITH(exponential_decay{0}.validate(), "exponential_decay: gamma is 0; give a finite number above 0");
  CHECK_THROWS_WITH((step_decay{0, 0.5}.validate()),
                    "step_decay: every is 0; give the number of steps between two changes");
  CHECK_THROWS_WITH((step_decay{3, infinite}.validate()), "step_decay: gamma is inf; give a finite number above 0");
  CHECK_THROWS_WITH((cosine_decay{0, 0.5}.validate()),
                    "cosine_decay: total is 0; give the number of steps until the floor");
  CHECK_THROWS_WITH((cosine_decay{3, 0}.validate()), "cosine_decay: floor is 0; give a finite number above 0");
  CHECK_THROWS_AS(lambda_schedule{}.validate(), invalid_argument);
  CHECK_THROWS_AS((lambda_schedule{[](std::uint64_t) { return 1.0; }, 0}.validate()), invalid_argument);
  CHECK_NOTHROW(exponential_decay{0.99}.validate());
  CHECK_NOTHROW((step_decay{3, 0.5}.validate()));
  CHECK_NOTHROW((cosine_decay{3, 0.5}.validate()));
  CHECK_NOTHROW((lambda_schedule{[](std::uint64_t) { return 1.0; }}.validate()));
}
