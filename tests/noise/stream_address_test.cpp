// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/noise/stream_address.hpp"

#include "support/catch.hpp"

#include <set>
#include <string>
#include <vector>

using dpopt::address;
using dpopt::philox_counter;
using dpopt::purpose;
using dpopt::randomness_error;
using dpopt::stream_counter;
using dpopt::stream_limits;

namespace {

/// Every power of two below the limit, its predecessor, 0 and the last value: each bit of the field alone and all
/// below.
std::vector<std::uint64_t> edges(std::uint64_t limit) {
  std::set<std::uint64_t> out{0, limit - 1};
  for (std::uint64_t bit = 1; bit < limit; bit *= 2) out.insert({bit, bit - 1});
  return {out.begin(), out.end()};
}

TEST_CASE("addresses that differ in any field have counters that differ") {
  std::set<philox_counter> seen;
  std::size_t given = 0;
  const auto see = [&](const address& where, std::uint64_t block) {
    seen.insert(stream_counter(where, block));
    ++given;
  };
  // The other fields rest at a value that is no edge, so that no address is given twice.
  const address rest{.what = purpose::gradient, .lane = 5, .step = 5, .parameter = 5};
  for (const auto what : {purpose::side_scalars, purpose::sampling})
    see({.what = what, .lane = 5, .step = 5, .parameter = 5}, 5);
  for (const auto lane : edges(stream_limits::lane)) {
    address where = rest;
    where.lane = static_cast<std::uint32_t>(lane);
    see(where, 5);
  }
  for (const auto step : edges(stream_limits::step)) {
    address where = rest;
    where.step = step;
    see(where, 5);
  }
  for (const auto parameter : edges(stream_limits::parameter)) {
    address where = rest;
    where.parameter = static_cast<std::uint32_t>(parameter);
    see(where, 5);
  }
  for (const auto block : edges(stream_limits::block)) see(rest, block);
  // Pairs of edges of neighbouring fields: a field that overlaps the next one would collide here.
  for (const auto lane : edges(stream_limits::lane))
    for (const auto step : edges(stream_limits::step))
      for (const std::uint32_t parameter : {0u, 1u, static_cast<std::uint32_t>(stream_limits::parameter - 1)})
        for (const std::uint64_t block : {std::uint64_t{0}, std::uint64_t{1} << 32, stream_limits::block - 1})
          see({.what = purpose::gradient,
               .lane = static_cast<std::uint32_t>(lane),
               .step = step,
               .parameter = parameter},
              block);
  CHECK(seen.size() == given);
}

TEST_CASE("blocks count in word 0, so that a batch of them is one counter and an offset") {
  const address where{.lane = 3, .step = 70, .parameter = 9};
  const philox_counter at = stream_counter(where, (std::uint64_t{7} << 32) + 32);
  const philox_counter next = stream_counter(where, (std::uint64_t{7} << 32) + 33);
  CHECK(next == philox_counter{at[0] + 1, at[1], at[2], at[3]});
  const philox_counter carried = stream_counter(where, std::uint64_t{8} << 32);
  CHECK(carried == philox_counter{0, at[1] + 1, at[2], at[3]});
}

TEST_CASE("an exhausted field is refused instead of repeating noise") {
  const auto refused = [](const address& where, std::uint64_t block, const std::string& field) {
    CHECK_THROWS_AS(stream_counter(where, block), randomness_error);
    CHECK_THROWS_WITH(stream_counter(where, block), contains_text("exhausted: " + field));
    CHECK_THROWS_WITH(stream_counter(where, block), contains_text("continuing would repeat noise"));
  };
  refused({.lane = 1u << 24}, 0, "lane");
  refused({.step = std::uint64_t{1} << 40}, 0, "step");
  refused({.parameter = 1u << 20}, 0, "parameter");
  refused({}, std::uint64_t{1} << 36, "element block");
  CHECK_NOTHROW(
      stream_counter({.lane = (1u << 24) - 1, .step = (std::uint64_t{1} << 40) - 1, .parameter = (1u << 20) - 1},
                     (std::uint64_t{1} << 36) - 1));
}

} // namespace
