// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/core/parallel.hpp"

#include "support/catch.hpp"

#include <stdexcept>
#include <vector>

using dpopt::isize;

namespace {

TEST_CASE("each piece is done once") {
  for (const isize count : {0, 1, 15, 16, 1000}) {
    std::vector<int> done(static_cast<std::size_t>(count));
    dpopt::parallel_pieces(count, [&](isize k) { ++done[static_cast<std::size_t>(k)]; });
    CHECK(done == std::vector<int>(static_cast<std::size_t>(count), 1));
  }
}

TEST_CASE("an exception of a piece reaches the caller, from few pieces and from many") {
  for (const isize count : {3, 1000})
    CHECK_THROWS_AS(dpopt::parallel_pieces(count,
                                           [](isize k) {
                                             if (k % 2 == 1) throw std::out_of_range("odd");
                                           }),
                    std::out_of_range);
}

} // namespace
