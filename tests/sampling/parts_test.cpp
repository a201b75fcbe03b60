// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "support/catch.hpp"

#include "dpopt/sampling/parts.hpp"

#include <numeric>

using namespace dpopt;

TEST_CASE("parts: every record once, in order, no part above the limit") {
  std::vector<isize> records(10);
  std::iota(records.begin(), records.end(), isize{3});
  for (isize most = 1; most <= 11; ++most) {
    std::vector<isize> joined;
    for (const auto part : parts(records, most)) {
      CHECK(static_cast<isize>(part.size()) <= most);
      CHECK_FALSE(part.empty());
      joined.insert(joined.end(), part.begin(), part.end());
    }
    CHECK(joined == records);
  }
}

TEST_CASE("parts: an empty batch is one empty part") {
  const auto split = parts({}, 4);
  REQUIRE(split.size() == 1);
  CHECK(split[0].empty());
}

TEST_CASE("parts: a limit below 1 is an error") { CHECK_THROWS_WITH(parts({}, 0), contains_text("at most 0 records")); }
