// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/core/types.hpp"

#include "support/catch.hpp"

using namespace dpopt;

TEST_CASE("only an exchange changes two contributions") {
  CHECK(contributions_changed(neighbouring::add_remove) == 1);
  CHECK(contributions_changed(neighbouring::zero_out) == 1);
  CHECK(contributions_changed(neighbouring::replace_one) == 2);
}

TEST_CASE("each relation has a name of its own") {
  CHECK(name_of(neighbouring::add_remove) == "add_remove");
  CHECK(name_of(neighbouring::zero_out) == "zero_out");
  CHECK(name_of(neighbouring::replace_one) == "replace_one");
}
