// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/scaling/expected_batch.hpp"

#include "support/catch.hpp"

#include <limits>

using namespace dpopt;

TEST_CASE("with mean the divisor is the expected size x ranks x iterations") {
  const expected_batch scaling{.expected_batch_size = per_rank(32)};
  CHECK(scaling.divisor(1, 1) == 32);
  CHECK(scaling.divisor(3, 1) == 96);
  CHECK(scaling.divisor(1, 5) == 160);
  CHECK(scaling.divisor(3, 5) == 480);
}

TEST_CASE("a bare number is per rank, as in Opacus") {
  CHECK(expected_batch{.expected_batch_size = 32}.divisor(2, 3) == 192);
  CHECK(expected_batch{.expected_batch_size = 32}.describe() == "expected_batch(per_rank(32), mean)");
}

TEST_CASE("a size across ranks is not multiplied by their number") {
  const expected_batch scaling{.expected_batch_size = across_ranks(64)};
  for (int ranks = 1; ranks <= 5; ++ranks) CHECK(scaling.divisor(2, ranks) == 128);
}

TEST_CASE("an expected size need not be whole: 1000 records at rate 1/16 are 62.5") {
  CHECK(expected_batch{.expected_batch_size = across_ranks(1000.0 / 16)}.divisor(1, 2) == 62.5);
  CHECK(expected_batch{.expected_batch_size = 0.25}.divisor(1, 2) == 0.5);
}

TEST_CASE("with sum nothing is divided, whatever the size") {
  const expected_batch without{.loss_reduction = loss_reduction::sum};
  const expected_batch with{.expected_batch_size = 32, .loss_reduction = loss_reduction::sum};
  CHECK_NOTHROW(without.validate());
  CHECK_NOTHROW(with.validate());
  CHECK(without.divisor(3, 5) == 1);
  CHECK(with.divisor(3, 5) == 1);
}

TEST_CASE("mean without a size is refused") {
  CHECK_THROWS_AS(expected_batch{}.validate(), invalid_argument);
  CHECK_THROWS_WITH(expected_batch{}.validate(),
                    "expected_batch_size: not given, but loss_reduction is mean; give per_rank(samples) or "
                    "across_ranks(samples), or use loss_reduction::sum");
}

TEST_CASE("a size must be a finite number above 0, also where it is not used") {
  for (const auto reduction : {loss_reduction::mean, loss_reduction::sum}) {
    const auto with = [reduction](batch_size b) { return expected_batch{b, reduction}; };
    CHECK_NOTHROW(with(1e-3).validate());
    CHECK_THROWS_AS(with(0).validate(), invalid_argument);
    CHECK_THROWS_WITH(with(0).validate(), "expected_batch_size: 0 is not a finite number above 0");
    CHECK_THROWS_WITH(with(per_rank(-8)).validate(), "expected_batch_size: -8 is not a finite number above 0");
    CHECK_THROWS_WITH(with(std::numeric_limits<double>::quiet_NaN()).validate(),
                      "expected_batch_size: nan is not a finite number above 0");
    CHECK_THROWS_WITH(with(across_ranks(std::numeric_limits<double>::infinity())).validate(),
                      "expected_batch_size: inf is not a finite number above 0");
  }
}

TEST_CASE("the description, which ranks compare, tells per rank from across ranks, and mean from sum") {
  const expected_batch local{.expected_batch_size = per_rank(8)};
  const expected_batch global{.expected_batch_size = across_ranks(8)};
  const expected_batch sum{.expected_batch_size = across_ranks(8), .loss_reduction = loss_reduction::sum};
  CHECK(local.describe() != global.describe());
  CHECK(global.describe() != sum.describe());
  CHECK(expected_batch{.loss_reduction = loss_reduction::sum}.describe() == "expected_batch(not given, sum)");
}

TEST_CASE("unscaled releases the sum itself") {
  CHECK_NOTHROW(unscaled{}.validate());
  CHECK(unscaled{}.divisor(4, 5) == 1);
}
