// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/core/own_process.hpp"

#include "support/catch.hpp"
#include "support/forked.hpp"

using namespace dpopt;

TEST_CASE("an object remembers its process: its copies are refused in a child, and a child's own are not") {
  const own_process ours;
  CHECK_NOTHROW(ours.require("the thing"));
  const std::string refused =
      "the thing is used in a process that was forked after it was constructed, and would repeat "
      "the random numbers of the parent; construct it after fork()";
  CHECK(test::thrown_in_a_child([&] { ours.require("the thing"); }) == refused);
  CHECK(test::thrown_in_a_child([&] { own_process(ours).require("the thing"); }) == refused);
  CHECK(test::thrown_in_a_child([] { own_process().require("the thing"); }).empty());
}
