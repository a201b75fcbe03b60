// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/dp_optimizer/update_memory.hpp"

#include "dpopt/optimizers/adam.hpp"
#include "dpopt/optimizers/sgd.hpp"
#include "support/catch.hpp"

#include <array>
#include <vector>

using namespace dpopt;

TEST_CASE("gradients go to the user's array, or to one of ours, in the layout of the plan") {
  std::vector<float> a(3), b(2), gradient_of_a(3);
  const parameter_set<float> parameters(std::vector<parameter_view<float>>{{"a", a, gradient_of_a}, {"b", b}});
  const bucket_plan plan(std::array<isize, 2>{3, 2}, 100);
  update_memory<float, sgd, false> memory(parameters, plan);
  memory.make_gradients();
  CHECK(memory.gradient(0).data() == gradient_of_a.data());
  CHECK(memory.gradient(1).data() == memory.own_gradients().data() + plan.offset(1));
  CHECK(memory.gradient(1).size() == 2);
}

TEST_CASE("slots are made when options use them, keep their numbers, and are null before") {
  std::vector<float> a(3), b(2);
  const parameter_set<float> parameters(std::vector<parameter_view<float>>{{"a", a}, {"b", b}});
  const bucket_plan plan(std::array<isize, 2>{3, 2}, 100);
  update_memory<float, sgd, false> memory(parameters, plan);
  memory.make_slots(sgd{});
  CHECK_FALSE(memory.keeps(0));
  CHECK(memory.tile(0, 1)[0] == nullptr);
  memory.make_slots(sgd{.momentum = 0.9});
  REQUIRE(memory.keeps(0));
  memory.tile(0, 1)[0][0] = 7;
  memory.make_slots(sgd{.momentum = 0.5});
  CHECK(memory.slot(0, 0)[1] == 7);
  CHECK(memory.slot(1, 0).size() == 2);

  update_memory<float, adam, false> of_adam(parameters, plan);
  of_adam.make_slots(adam{});
  CHECK(of_adam.keeps(0));
  CHECK(of_adam.keeps(1));
}
