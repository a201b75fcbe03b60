// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/noise/placement.hpp"

#include "support/catch.hpp"

#include <limits>
#include <set>

using dpopt::independent_shares;
using dpopt::Placement;
using dpopt::replicated;
using dpopt::root_before_reduction;
using dpopt::sharded;
using dpopt::share;

namespace {

struct placement {
  static constexpr bool needs_addressable = false;
  static constexpr bool before_reduction = false;
  [[nodiscard]] share before(int, int) const { return {}; }
  [[nodiscard]] share after(int, int) const { return {1, 0}; }
};
static_assert(Placement<placement>);
static_assert(!dpopt::WholePlacement<placement>); // it does not promise never to split: no discrete noise

struct whole_placement : placement {
  static constexpr bool whole = true;
};
static_assert(dpopt::WholePlacement<whole_placement>);

struct split_placement : placement {
  static constexpr bool whole = false;
};
static_assert(!dpopt::WholePlacement<split_placement>); // it says that it does split

struct placement_of_mutable_before : placement {
  share before(int, int) { return {}; }
};
static_assert(!Placement<placement_of_mutable_before>); // before() is not const

struct placement_of_plain_factor : placement {
  [[nodiscard]] double after(int, int) const { return 1; }
};
static_assert(!Placement<placement_of_plain_factor>); // after() names no lane

struct placement_without_need : placement {
  void needs_addressable() = delete;
};
static_assert(!Placement<placement_without_need>); // it does not say whether any mechanism will do

struct placement_without_time : placement {
  void before_reduction() = delete;
};
static_assert(!Placement<placement_without_time>); // it does not say whether before() matters

static_assert(replicated::needs_addressable && independent_shares::needs_addressable);
static_assert(!root_before_reduction::needs_addressable);

/// The variance of the released sum over std^2. Shares in one lane are the same number, so their factors add up before
/// they are squared; shares in different lanes are independent.
template <class P>
double variance_factor(int ranks) {
  double total = 0;
  std::set<std::uint32_t> lanes;
  for (int rank = 0; rank < ranks; ++rank) {
    const share part = P{}.before(rank, ranks);
    if (part.std_factor == 0) continue;
    REQUIRE(lanes.insert(part.lane).second); // nobody else drew this number
    total += part.std_factor * part.std_factor;
  }
  const share everywhere = P{}.after(0, ranks);
  for (int rank = 1; rank < ranks; ++rank) {
    REQUIRE(P{}.after(rank, ranks).std_factor == everywhere.std_factor); // else ranks would drift apart
    REQUIRE(P{}.after(rank, ranks).lane == everywhere.lane);
  }
  return total + everywhere.std_factor * everywhere.std_factor;
}

TEMPLATE_TEST_CASE("the release carries the variance exactly once, whatever the number of ranks", "", replicated,
                   root_before_reduction, independent_shares, sharded) {
  // Exactly, but for the rounding of 1 / sqrt(W): half a unit in the last place, twice, and a sum of W terms.
  for (int ranks = 1; ranks <= 64; ++ranks)
    CHECK(variance_factor<TestType>(ranks) == Approx(1).epsilon(64 * std::numeric_limits<double>::epsilon()).margin(0));
}

TEMPLATE_TEST_CASE("before_reduction says whether before() ever adds anything", "", replicated, root_before_reduction,
                   independent_shares, sharded) {
  bool adds = false;
  for (int rank = 0; rank < 5; ++rank) adds = adds || TestType::before(rank, 5).std_factor > 0;
  CHECK(adds == TestType::before_reduction);
}

TEST_CASE("a whole placement draws each number once with the whole std, on any number of ranks") {
  const auto parts = [](auto p, int ranks) {
    double sum = 0;
    for (int r = 0; r < ranks; ++r)
      for (const double f : {p.before(r, ranks).std_factor, p.after(r, ranks).std_factor}) {
        CHECK((f == 0 || f == 1));
        sum += f;
      }
    return sum;
  };
  for (int ranks = 1; ranks <= 5; ++ranks) {
    CHECK(parts(replicated{}, ranks) == ranks); // alike everywhere: one noise
    CHECK(parts(root_before_reduction{}, ranks) == 1);
  }
}

} // namespace
