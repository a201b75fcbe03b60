// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/core/error.hpp"

#include "support/catch.hpp"

#include <cmath>
#include <limits>
#include <string>
#include <type_traits>

using namespace dpopt;

TEST_CASE("catching dpopt::error catches everything that the library throws on purpose") {
  STATIC_REQUIRE(std::is_base_of_v<std::runtime_error, error>);
  CHECK_THROWS_AS(throw invalid_argument("a"), error);
  CHECK_THROWS_AS(throw state_error("a"), error);
  CHECK_THROWS_AS(throw rank_error(3, "a"), error);
  CHECK_THROWS_AS(throw communication_error("a"), error);
  CHECK_THROWS_AS(throw randomness_error("a"), error);
}

TEST_CASE("the kinds of error are told apart by their type") {
  STATIC_REQUIRE_FALSE(std::is_base_of_v<invalid_argument, state_error>);
  STATIC_REQUIRE_FALSE(std::is_base_of_v<state_error, rank_error>);
  STATIC_REQUIRE_FALSE(std::is_base_of_v<communication_error, rank_error>);
}

TEST_CASE("a rank_error knows the rank that failed and keeps the text") {
  const rank_error e(7, "rank 7: the reason");
  CHECK(e.rank() == 7);
  CHECK(std::string(e.what()) == "rank 7: the reason");
}

TEST_CASE("a message shows a number as it was given, and reading it back gives the same number") {
  CHECK(message(0.1, " ", 62.5, " ", 1e-30) == "0.1 62.5 1e-30");
  for (const double x : {0.1, 1.0 / 3, 62.5, 1e-30, 1e300, std::nextafter(1.0, 2.0)}) CHECK(std::stod(message(x)) == x);
}

TEST_CASE("a message is its parts in order, and values that are no numbers are shown as what they are") {
  CHECK(message("bound of '", std::string("layer1"), "' is ", -2, "; give ", 1.5) ==
        "bound of 'layer1' is -2; give 1.5");
  CHECK(message(std::numeric_limits<double>::quiet_NaN()) == "nan");
  CHECK(message(-std::numeric_limits<double>::infinity()) == "-inf");
  CHECK(message().empty());
}
