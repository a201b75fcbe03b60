// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/dp_optimizer/step_budget.hpp"

#include "dpopt/accounting/rdp_accountant.hpp"
#include "dpopt/clipping/flat.hpp"
#include "support/catch.hpp"
#include "support/probes.hpp"

using namespace dpopt;
using namespace dpopt::test;

TEST_CASE("the noise of a step is multiplier times sensitivity, and stays what it was when the step began") {
  probe_noise noise{.noise_multiplier = 2};
  const flat clipper{0.5};
  step_budget budget;
  budget.fix<double>(noise, clipper, neighbouring::replace_one, 1);
  CHECK(budget.multiplier() == 2);
  CHECK(budget.noise_std() == 2); // 2 x (2 x 0.5)
  CHECK_NOTHROW(budget.require_same(noise, clipper, neighbouring::replace_one));
  CHECK_THROWS_AS(budget.require_same(noise, flat{0.4}, neighbouring::replace_one), state_error);
  noise.noise_multiplier = 1;
  CHECK_THROWS_AS(budget.require_same(noise, clipper, neighbouring::replace_one), state_error);

  rdp_accountant accountant;
  budget.charge(accountant, noise, 0.25, neighbouring::replace_one);
  REQUIRE(accountant.history().size() == 1);
  const gaussian_event charged = accountant.history()[0];
  CHECK(charged.noise_multiplier == 2); // of the step, not of now
  CHECK(charged.sampling_rate == 0.25);
  CHECK(charged.relation == neighbouring::replace_one);
  CHECK_FALSE(budget.run_charged()); // only where a whole run is one mechanism
}
