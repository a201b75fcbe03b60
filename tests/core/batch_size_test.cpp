// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/core/batch_size.hpp"

#include "support/catch.hpp"

using namespace dpopt;

TEST_CASE("a size is per rank or of all ranks, and a bare number is per rank") {
  CHECK(batch_size(64).over(3) == 192);
  CHECK(batch_size(per_rank{64}).over(3) == 192);
  CHECK(batch_size(across_ranks{64}).over(3) == 64);
  CHECK(batch_size(across_ranks{62.5}).over(3) == 62.5); // sampling rate x records need not be whole
  CHECK(batch_size(across_ranks{62.5}).value() == 62.5);
}

TEST_CASE("a size that was not given says so") {
  CHECK_FALSE(batch_size().given());
  CHECK(batch_size(0).given());
  CHECK(batch_size().describe() == "not given");
  CHECK(batch_size(64).describe() == "per_rank(64)");
  CHECK(batch_size(across_ranks{62.5}).describe() == "across_ranks(62.5)");
}
