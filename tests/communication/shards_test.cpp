// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/communication/shards.hpp"

#include "support/catch.hpp"

#include <algorithm>
#include <array>
#include <cstddef>
#include <vector>

using namespace dpopt;

TEST_CASE("every element of every parameter has exactly one owner, and the ranks agree on the lengths") {
  const std::array<isize, 6> sizes{7, 0, 1, 23, 4, 2};
  for (const isize capacity : {1, 8, 100})
    for (int ranks = 1; ranks <= 9; ++ranks) {
      const bucket_plan plan(sizes, capacity);
      std::vector<std::vector<int>> owners;
      for (const isize n : sizes) owners.emplace_back(static_cast<std::size_t>(n), 0);
      for (int rank = 0; rank < ranks; ++rank) {
        const shard_plan shards(plan, rank, ranks);
        const shard_plan of_first(plan, 0, ranks);
        for (isize k = 0; k < std::ssize(plan.buckets()); ++k) {
          CHECK(std::ranges::equal(shards.counts(k), of_first.counts(k)));
          CHECK(shards.counts(k)[static_cast<std::size_t>(rank)] == shards.own(k).size);
          const auto [least, most] = std::ranges::minmax(shards.counts(k));
          CHECK(most - least <= 1);
          isize before = plan.buckets()[static_cast<std::size_t>(k)].first;
          for (int r = 0; r < rank; ++r) before += shards.counts(k)[static_cast<std::size_t>(r)];
          CHECK(shards.own(k).first == before);
          for_each_owned(plan, shards, k, [&](isize p, isize first, isize count) {
            for (isize i = first; i < first + count; ++i)
              ++owners[static_cast<std::size_t>(p)].at(static_cast<std::size_t>(i));
          });
        }
      }
      for (const auto& of_parameter : owners)
        CHECK(std::ranges::all_of(of_parameter, [](int times) { return times == 1; }));
    }
}
