// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "support/catch.hpp"

#include "dpopt/communication/shared_values.hpp"
#include "support/ranks.hpp"

#include <cstddef>
#include <vector>

using namespace dpopt;
using namespace dpopt::test;

TEST_CASE("share_values: every rank gets the root's list, whatever it had before, also an empty one") {
  const std::vector<std::vector<double>> roots = {{}, {1.5}, {1, 2, 3, 4, 5}};
  for (const auto& of_root : roots)
    for (const int W : {1, 2, 3}) {
      std::vector<std::vector<double>> got(static_cast<std::size_t>(W));
      rethrow_first(run_ranks(W, [&](threads ranks) {
        const auto rank = static_cast<std::size_t>(ranks.rank());
        got[rank] = rank == 0 ? of_root : std::vector<double>(3 * rank, -1.0);
        share_values(ranks, got[rank]);
      }));
      for (const auto& one : got) CHECK(one == of_root);
    }
}
