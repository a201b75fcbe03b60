// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/parameters/ownership.hpp"

#include "support/catch.hpp"

#include <array>
#include <optional>
#include <thread>
#include <vector>

using namespace dpopt;

TEST_CASE("a range can be claimed once") {
  std::array<double, 8> x{};
  ownership mine;
  CHECK_NOTHROW(mine.claim("x", x.data(), sizeof x));
  ownership other;
  CHECK_THROWS_AS(other.claim("x", x.data(), sizeof x), invalid_argument);
  CHECK_THROWS_WITH(
      other.claim("layer1.weight", x.data(), sizeof x),
      "parameter 'layer1.weight' already belongs to a live optimizer or is listed twice; destroy the other "
      "optimizer first, or list a tied parameter once");
}

TEST_CASE("one claim may not list a tied parameter twice") {
  std::array<double, 8> x{};
  ownership mine;
  mine.claim("embedding", x.data(), sizeof x);
  CHECK_THROWS_AS(mine.claim("decoder", x.data(), sizeof x), invalid_argument);
}

TEST_CASE("ranges that share a byte overlap, neighbours do not") {
  std::array<std::byte, 100> x{};
  ownership middle;
  middle.claim("middle", x.data() + 40, 20);
  ownership other;
  CHECK_THROWS_AS(other.claim("the same", x.data() + 40, 20), invalid_argument);
  CHECK_THROWS_AS(other.claim("inside", x.data() + 45, 5), invalid_argument);
  CHECK_THROWS_AS(other.claim("around", x.data() + 10, 80), invalid_argument);
  CHECK_THROWS_AS(other.claim("its first byte", x.data() + 30, 11), invalid_argument);
  CHECK_THROWS_AS(other.claim("its last byte", x.data() + 59, 11), invalid_argument);
  CHECK_NOTHROW(other.claim("before", x.data() + 30, 10));
  CHECK_NOTHROW(other.claim("after", x.data() + 60, 10));
}

TEST_CASE("a refused claim claims nothing, and those before it stay") {
  std::array<std::byte, 100> x{};
  ownership middle;
  middle.claim("middle", x.data() + 40, 20);
  ownership other;
  other.claim("before", x.data(), 10);
  CHECK_THROWS_AS(other.claim("around", x.data() + 20, 60), invalid_argument);
  ownership third;
  CHECK_NOTHROW(third.claim("what the refused one would have had", x.data() + 20, 20));
  CHECK_THROWS_AS(third.claim("taken", x.data() + 5, 1), invalid_argument);
}

TEST_CASE("what is let go can be claimed again") {
  std::array<double, 8> x{};
  std::array<double, 8> y{};
  std::optional<ownership> first(std::in_place);
  first->claim("x", x.data(), sizeof x);
  first->claim("y", y.data(), sizeof y);
  ownership second;
  CHECK_THROWS_AS(second.claim("x", x.data(), sizeof x), invalid_argument);
  SECTION("by destruction") { first.reset(); }
  SECTION("by release(), any number of times") {
    first->release();
    first->release();
  }
  CHECK_NOTHROW(second.claim("x", x.data(), sizeof x));
  CHECK_NOTHROW(second.claim("y", y.data(), sizeof y));
}

TEST_CASE("letting go leaves other claims alone") {
  std::array<double, 8> x{};
  std::array<double, 8> y{};
  ownership first;
  first.claim("x", x.data(), sizeof x);
  ownership second;
  second.claim("y", y.data(), sizeof y);
  second.release();
  CHECK_THROWS_AS(second.claim("x", x.data(), sizeof x), invalid_argument);
}

TEST_CASE("empty ranges are never claimed") {
  double x = 0;
  ownership first;
  ownership second;
  CHECK_NOTHROW(first.claim("nothing", &x, 0));
  CHECK_NOTHROW(second.claim("nothing", &x, 0));
  CHECK_NOTHROW(second.claim("no address", nullptr, 0));
  CHECK_NOTHROW(first.claim("x", &x, sizeof x));
  CHECK_NOTHROW(second.claim("nothing inside", &x, 0));
}

TEST_CASE("of two threads that want one range, exactly one gets it") {
  std::array<double, 4> wanted{};
  for (int round = 0; round < 100; ++round) {
    std::array<ownership, 2> claims;
    std::array<int, 2> won{};
    {
      std::vector<std::jthread> both;
      for (std::size_t t = 0; t < 2; ++t)
        both.emplace_back([&, t] {
          try {
            claims[t].claim("wanted", wanted.data(), sizeof wanted);
            won[t] = 1;
          } catch (const invalid_argument&) {
            won[t] = 0;
          }
        });
    }
    REQUIRE(won[0] + won[1] == 1);
  }
}
