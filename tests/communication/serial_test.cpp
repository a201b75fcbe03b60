// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/communication/serial.hpp"

#include "support/catch.hpp"
#include "support/communicator_conformance.hpp"

#include <cmath>
#include <cstddef>
#include <cstdint>

using namespace dpopt;

TEST_CASE("serial keeps every promise of a communicator") { CHECK_NOTHROW(test::keeps_every_promise(serial())); }

TEST_CASE("serial is rank 0 of 1 and leaves numbers as they are") {
  serial comm;
  CHECK(comm.rank() == 0);
  CHECK(comm.size() == 1);
  double x[] = {0.1, -0.0, 3};
  serial::request started = comm.start_sum(x, 3);
  comm.wait(started);
  CHECK(x[0] == 0.1);
  CHECK(std::signbit(x[1]));
  CHECK(x[2] == 3);
}

TEST_CASE("serial refuses what would fail on two ranks") {
  serial comm;
  double x = 1;
  std::byte b{};
  CHECK_THROWS_WITH(comm.start_sum(&x, -3), "communicator: the length of a buffer is -3; give 0 or more");
  CHECK_THROWS_AS(comm.start_sum(static_cast<float*>(nullptr), 1), invalid_argument);
  CHECK_THROWS_AS(comm.broadcast(&b, -1, 0), invalid_argument);
  CHECK_THROWS_WITH(comm.broadcast(&b, 1, 1), "communicator: the root of a broadcast is 1; give a rank from 0 to 0");
}

TEST_CASE("only the four number types travel") {
  STATIC_REQUIRE(Reduces<serial, float>);
  STATIC_REQUIRE(Reduces<serial, double>);
  STATIC_REQUIRE(Reduces<serial, std::int64_t>);
  STATIC_REQUIRE(Reduces<serial, std::uint64_t>);
  STATIC_REQUIRE_FALSE(Reduces<serial, int>); // MPI would need a datatype that nobody tests
  STATIC_REQUIRE_FALSE(Reduces<serial, long double>);
  STATIC_REQUIRE_FALSE(Reduces<serial, bool>);
}
