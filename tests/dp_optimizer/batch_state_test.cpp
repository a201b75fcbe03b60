// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// The order of calls by itself; what the composed optimizer makes of it is in state_machine_test.cpp.
#include "dpopt/dp_optimizer/batch_state.hpp"

#include "support/catch.hpp"

#include <limits>
#include <vector>

using namespace dpopt;

namespace {

batch_state three_parameters() { return batch_state({{"weight", 4}, {"bias", 2}, {"scale", 1}}); }

void all_arrive(batch_state& s) {
  const isize batch = s.current().samples;
  s.arrive(2, batch, 1);
  s.arrive(0, batch, 4);
  s.arrive(1, batch, 2);
}

// One step of one microbatch, to the end.
void whole_step(batch_state& s, const microbatch& m) {
  s.begin(m, true);
  all_arrive(s);
  s.require_complete();
  s.close();
  s.require_step();
  s.reset();
}

sampling_token poisson(std::uint64_t draw, double rate = 0.1) { return {sampling_scheme::poisson, rate, draw}; }

} // namespace

TEST_CASE("batch_state: a microbatch is complete when each parameter has come once, in any order") {
  batch_state s = three_parameters();
  CHECK(s.empty());
  s.begin({.samples = 5}, true);
  CHECK_FALSE(s.empty());
  CHECK(s.open());
  CHECK_THROWS_AS(s.require_complete(), state_error);
  all_arrive(s);
  CHECK_NOTHROW(s.require_complete());
  s.close();
  CHECK_FALSE(s.open());
  CHECK_NOTHROW(s.require_step());
}

TEST_CASE("batch_state: missing parameters are named, with the number of the microbatch") {
  batch_state s = three_parameters();
  s.begin({.samples = 5, .last = false}, true);
  all_arrive(s);
  s.close();
  s.begin({.samples = 5}, true);
  CHECK_THROWS_WITH(s.require_complete(),
                    "no gradient for 'weight', 'bias', 'scale' in a microbatch of this step; call "
                    "gradient_ready, or gradient_absent for an unused parameter");
  s.arrive(1, 5, 2);
  CHECK_THROWS_WITH(s.require_complete(), "no gradient for 'weight', 'scale' in a microbatch of this step; call "
                                          "gradient_ready, or gradient_absent for an unused parameter");
  s.arrive_absent(0);
  s.arrive(2, 5, 1);
  CHECK_NOTHROW(s.require_complete());
}

TEST_CASE("batch_state: the next microbatch does not begin before the last one is complete") {
  batch_state s = three_parameters();
  s.begin({.samples = 5, .last = false}, true);
  s.arrive(0, 5, 4);
  CHECK_THROWS_AS(s.begin({.samples = 5}, true), state_error);
}

TEST_CASE("batch_state: a microbatch without samples needs no gradients, and may have them") {
  batch_state s = three_parameters();
  s.begin({.samples = 0}, true);
  CHECK_NOTHROW(s.require_complete());
  s.arrive(1, 0, 2);
  CHECK_NOTHROW(s.require_complete());
  CHECK_NOTHROW(s.require_step());
  CHECK_THROWS_AS(s.arrive(0, 3, 4), invalid_argument);
}

TEST_CASE("batch_state: a gradient that does not fit is refused by name") {
  batch_state s = three_parameters();
  CHECK_THROWS_AS(s.arrive(0, 5, 4), state_error);
  CHECK_THROWS_WITH(s.arrive(0, 5, 4), "gradient of 'weight' came without begin()");
  CHECK_THROWS_WITH(s.arrive_absent(1), "gradient of 'bias' came without begin()");
  s.begin({.samples = 5}, true);
  CHECK_THROWS_WITH(s.arrive(3, 5, 4), "gradient_ready: parameter 3 does not exist; there are 3");
  CHECK_THROWS_WITH(s.arrive(-1, 5, 4), "gradient_ready: parameter -1 does not exist; there are 3");
  CHECK_THROWS_AS(s.arrive(3, 5, 4), invalid_argument);
  SECTION("another number of samples") {
    CHECK_THROWS_AS(s.arrive(0, 4, 4), invalid_argument);
    CHECK_THROWS_WITH(s.arrive(1, 6, 2), "gradient of 'bias' holds another number of samples than begin() declared "
                                         "(both are private: look at them where they come from)");
  }
  SECTION("another number of elements") {
    CHECK_THROWS_AS(s.arrive(0, 5, 3), invalid_argument);
    CHECK_THROWS_WITH(s.arrive(2, 5, 2), "gradient of 'scale' holds 2 elements a sample, but the parameter has 1");
  }
  SECTION("a second time") {
    s.arrive(0, 5, 4);
    s.arrive_absent(1);
    CHECK_THROWS_AS(s.arrive(0, 5, 4), state_error);
    CHECK_THROWS_WITH(s.arrive(1, 5, 2),
                      "second gradient for 'bias' in one microbatch; add the uses of a tied parameter "
                      "up in one source");
    CHECK_THROWS_AS(s.arrive_absent(0), state_error);
  }
}

TEST_CASE("batch_state: nothing begins after the last microbatch of a step") {
  batch_state s = three_parameters();
  s.begin({.samples = 0}, true);
  CHECK(s.last());
  s.close();
  CHECK_THROWS_AS(s.begin({.samples = 0}, true), state_error);
  CHECK_THROWS_WITH(s.begin({.samples = 0}, true),
                    "begin(): the microbatch before this one was declared the last of the step; call step() first, or "
                    "pass .last = false to all but the last");
  SECTION("unless the step is a virtual one after all") { s.continue_step(); }
  SECTION("unless the step is over") { s.reset(); }
  CHECK_NOTHROW(s.begin({.samples = 0}, true));
}

TEST_CASE("batch_state: a virtual step has no last microbatch") {
  batch_state s = three_parameters();
  s.begin({.samples = 0}, false);
  CHECK_FALSE(s.last());
  s.close();
  CHECK_NOTHROW(s.begin({.samples = 0}, true));
}

TEST_CASE("batch_state: a declaration must make sense") {
  batch_state s = three_parameters();
  CHECK_THROWS_AS(s.begin({.samples = -1}, true), invalid_argument);
  CHECK_THROWS_WITH(s.begin({.samples = -1}, true), "begin(): samples is -1; give 0 or more");
  CHECK_THROWS_WITH(s.begin({.samples = 1, .gradient_scale = std::numeric_limits<double>::infinity()}, true),
                    "begin(): gradient_scale is inf; give a finite number");
  CHECK_THROWS_WITH(s.begin({.samples = 1, .gradient_scale = 0}, true),
                    contains_text("gradient_scale is 0, which drops every sample") &&
                        contains_text("gradient_scale_of"));
  CHECK_THROWS_AS(s.begin({.samples = 1, .gradient_scale = std::numeric_limits<double>::quiet_NaN()}, true),
                  invalid_argument);
  CHECK(s.empty());
}

TEST_CASE("batch_state: a step needs a begin, also on a rank without samples") {
  batch_state s = three_parameters();
  CHECK_THROWS_AS(s.require_step(), state_error);
  CHECK_THROWS_WITH(s.require_step(),
                    "step() without begin(): a rank without samples declares them with begin({.samples = 0})");
  s.begin({.samples = 0}, true);
  CHECK_NOTHROW(s.require_step());
  s.reset();
  CHECK_THROWS_AS(s.require_step(), state_error);
}

TEST_CASE("batch_state: logical batches are counted as they are declared, physical parts are not") {
  batch_state s = three_parameters();
  CHECK(s.accumulated_iterations() == 0);
  for (int part = 0; part < 3; ++part) {
    s.begin({.samples = 0, .last = false}, true);
    s.close();
    CHECK(s.accumulated_iterations() == 1);
  }
  s.begin({.samples = 0, .last = false, .ends_batch = true}, true);
  CHECK(s.accumulated_iterations() == 1);
  s.close();
  CHECK(s.accumulated_iterations() == 1);
  s.begin({.samples = 0, .last = false}, true);
  CHECK(s.accumulated_iterations() == 2);
  s.close();
  s.begin({.samples = 0, .ends_batch = true}, true);
  s.close();
  CHECK(s.accumulated_iterations() == 2);
  s.reset();
  CHECK(s.accumulated_iterations() == 0);
}

TEST_CASE("batch_state: the sampling rate is the token's, and 1 where nothing proves otherwise") {
  batch_state s = three_parameters();
  CHECK(s.sampling_rate() == 1);
  s.begin({.samples = 0}, true);
  CHECK(s.sampling_rate() == 1);
  s.reset();
  s.begin({.samples = 0, .token = {sampling_scheme::none, 0.01, 5}}, true);
  CHECK(s.sampling_rate() == 1);
  s.reset();
  s.begin({.samples = 0, .token = poisson(1, 0.01)}, true);
  CHECK(s.sampling_rate() == 0.01);
  s.reset();
  CHECK(s.sampling_rate() == 1);
}

TEST_CASE("batch_state: a token serves one step") {
  batch_state s = three_parameters();
  whole_step(s, {.samples = 2, .token = poisson(3)});
  CHECK_THROWS_AS(s.begin({.samples = 2, .token = poisson(3)}, true), state_error);
  CHECK_THROWS_WITH(s.begin({.samples = 2, .token = poisson(3)}, true),
                    "begin(): this sampling token served an earlier step; draw a new batch");
  CHECK_THROWS_AS(s.begin({.samples = 2, .token = poisson(2)}, true), state_error);
  CHECK_NOTHROW(whole_step(s, {.samples = 2, .token = poisson(4)}));
}

TEST_CASE("batch_state: the first draw may be number 0") {
  batch_state s = three_parameters();
  CHECK_NOTHROW(whole_step(s, {.samples = 2, .token = poisson(0)}));
  CHECK_THROWS_AS(s.begin({.samples = 2, .token = poisson(0)}, true), state_error);
}

TEST_CASE("batch_state: a token stays used whatever steps without one come in between") {
  batch_state s = three_parameters();
  whole_step(s, {.samples = 2, .token = poisson(7)});
  whole_step(s, {.samples = 2});
  CHECK_THROWS_AS(s.begin({.samples = 2, .token = poisson(7)}, true), state_error);
  CHECK_THROWS_AS(s.begin({.samples = 2, .token = poisson(6)}, true), state_error);
  CHECK_NOTHROW(whole_step(s, {.samples = 2, .token = poisson(8)}));
}

TEST_CASE("batch_state: steps without a token use up none") {
  batch_state s = three_parameters();
  whole_step(s, {.samples = 2});
  CHECK_NOTHROW(whole_step(s, {.samples = 2, .token = poisson(0)}));
}

TEST_CASE("batch_state: a token of a step that was dropped stays used") {
  batch_state s = three_parameters();
  s.begin({.samples = 2, .token = poisson(3)}, true);
  s.reset();
  CHECK_THROWS_AS(s.begin({.samples = 2, .token = poisson(3)}, true), state_error);
}

TEST_CASE("batch_state: the parts of one step carry one token") {
  batch_state s = three_parameters();
  s.begin({.samples = 0, .last = false, .token = poisson(1)}, true);
  s.close();
  SECTION("the same is fine") {
    CHECK_NOTHROW(s.begin({.samples = 0, .token = poisson(1)}, true));
    CHECK_NOTHROW(s.require_step());
  }
  SECTION("another draw") {
    CHECK_THROWS_WITH(s.begin({.samples = 0, .token = poisson(2)}, true),
                      "begin(): the sampling token differs from that of the parts before it in this step; a step takes "
                      "one Poisson-sampled logical batch");
  }
  SECTION("another rate") { CHECK_THROWS_AS(s.begin({.samples = 0, .token = poisson(1, 0.2)}, true), state_error); }
  SECTION("none") { CHECK_THROWS_AS(s.begin({.samples = 0}, true), state_error); }
}

TEST_CASE("batch_state: a token may not come later than the first part") {
  batch_state s = three_parameters();
  s.begin({.samples = 0, .last = false}, true);
  s.close();
  CHECK_THROWS_AS(s.begin({.samples = 0, .token = poisson(1)}, true), state_error);
}

TEST_CASE("batch_state: several Poisson-sampled logical batches in one step are refused: they could share a record") {
  batch_state s = three_parameters();
  s.begin({.samples = 0, .last = false, .ends_batch = true, .token = poisson(1)}, true);
  s.close();
  CHECK_NOTHROW(s.require_step());
  s.begin({.samples = 0, .token = poisson(1)}, true);
  CHECK_THROWS_AS(s.require_step(), state_error);
  CHECK_THROWS_WITH(s.require_step(),
                    "a step over several Poisson-sampled logical batches could hold a record twice; make them parts of "
                    "one logical batch (.ends_batch = false, one token)");
}

TEST_CASE("batch_state: a rate is in (0, 1]") {
  batch_state s = three_parameters();
  for (const double rate : {0.0, -0.1, 1.5, std::numeric_limits<double>::quiet_NaN()})
    CHECK_THROWS_AS(s.begin({.samples = 0, .token = poisson(1, rate)}, true), invalid_argument);
  CHECK_THROWS_WITH(s.begin({.samples = 0, .token = poisson(1, 2)}, true),
                    "begin(): the token's sampling rate is 2; give a rate in (0, 1]");
  CHECK_NOTHROW(s.begin({.samples = 0, .token = poisson(1, 1)}, true));
}
