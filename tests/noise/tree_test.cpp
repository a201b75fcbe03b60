// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/noise/tree.hpp"

#include "support/catch.hpp"
#include "support/strategies.hpp"

#include <bit>
#include <cmath>
#include <cstdint>
#include <vector>

using namespace dpopt;
using namespace dpopt::test;

namespace {

/// C by its definition: row c of a tree is the node that ends there, the sum of the releases (c - lowest bit of c, c].
matrix nodes(std::size_t releases, std::size_t restart_every) {
  matrix out(releases, std::vector<double>(releases));
  for (std::size_t t = 0; t < releases; ++t) {
    const std::size_t c = (restart_every == 0 ? t : t % restart_every) + 1;
    for (std::size_t k = 0; k < (c & (~c + 1)); ++k) out[t][t - k] = 1;
  }
  return out;
}

TEST_CASE("what the tree really adds is C^-1 z with the nodes as C, before and after restarts") {
  for (const std::size_t every : {0u, 1u, 3u, 4u, 7u, 8u, 30u}) {
    INFO("restart every " << every);
    CHECK(inverse_of(realized_inverse(tree(every), run_plan::once(20))) == nodes(20, every)); // small integers: exact
  }
}

TEST_CASE("a prefix sum carries the noise of one node for each bit of its length, and of each tree before") {
  for (const std::size_t every : {0u, 6u}) {
    const matrix noise = realized_inverse(tree(every), run_plan::once(20));
    std::vector<double> sum(20, 0.0);
    for (std::size_t t = 0; t < 20; ++t) {
      int used = 0;
      for (std::size_t s = 0; s < 20; ++s) {
        sum[s] += noise[t][s];
        CHECK((sum[s] == 0 || sum[s] == 1)); // each node once
        used += sum[s] != 0 ? 1 : 0;
      }
      const std::size_t trees = every == 0 ? 0 : t / every;
      CHECK(used == std::popcount(t + 1 - trees * every) + static_cast<int>(trees) * std::popcount(every));
    }
  }
}

TEST_CASE("the sensitivity is exact for one participation and an upper bound otherwise") {
  for (const std::size_t every : {0u, 1u, 3u, 4u, 6u})
    for (const run_plan& plan : small_plans(10)) {
      INFO(plan.describe() << ", restart every " << every);
      const double tried = tried_sensitivity(nodes(10, every), plan);
      const double claimed = tree(every).sensitivity(plan);
      CHECK(claimed >= tried);
      CHECK(claimed <= tried * 1.5);
      if (plan.most_participations() == 1) CHECK(claimed == Approx(tried).epsilon(1e-12));
    }
  CHECK(tree().sensitivity(run_plan::once(1000)) == Approx(std::sqrt(10)));
  CHECK(tree(250).sensitivity(run_plan::separated(1000, 250)) == Approx(std::sqrt(4 * 8))); // a pass a tree
  double squares = 0; // a record in every release fills every node
  for (std::uint64_t c = 1; c <= 64; ++c) squares += std::pow(static_cast<double>(c & (~c + 1)), 2);
  CHECK(tree().sensitivity(run_plan::separated(64, 1)) == Approx(std::sqrt(squares)));
}

TEST_CASE("the description tells restarts apart") {
  CHECK(tree().describe() != tree(4).describe());
  CHECK(tree(5).describe() != tree(4).describe());
}

} // namespace
