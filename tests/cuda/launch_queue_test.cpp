// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "support/recording_api.hpp"

#include "support/catch.hpp"

#include "dpopt/cuda/accumulators.hpp"
#include "dpopt/cuda/launch_queue.cuh"
#include "dpopt/cuda/linear_source.cuh"
#include "dpopt/cuda/materialized_source.cuh"

#include <cstddef>
#include <span>
#include <vector>

using namespace dpopt;
using testing::recording_api;

namespace {

using sum = cuda::running_sum<float>;
using waiting = cuda::waiting_source<sum, recording_api>;
using listed = cuda::listed_source<sum, recording_api, double>;
using queue = cuda::launch_queue<sum, recording_api, double>;

/// Writes down the lists that it is handed.
struct recorder {
  std::vector<std::vector<listed>>& lists;
  void operator()(const cuda::source_kind<sum, recording_api>&, std::span<const listed> list) const {
    lists.emplace_back(list.begin(), list.end());
  }
};

const waiting rows{cuda::materialized<float>(nullptr, 2, 5)};
const waiting layer{cuda::linear_weight<float>{nullptr, nullptr, 2, 3, 4}};

} // namespace

// A thread adds all that stand side by side; two threads that add to one norm would lose what one of them adds.
TEST_CASE("parameters of a group stand side by side in a launch, in the order in which they came") {
  std::vector<std::vector<listed>> lists;
  std::vector<waiting> sources(9, rows);
  std::vector<double> norms(3);
  queue q;
  for (std::size_t p = 0; p < 9; ++p) q.add({&sources[p], &norms[p % 3], nullptr}, recorder{lists});
  CHECK(lists.empty());
  q.flush(recorder{lists});
  REQUIRE(lists.size() == 1);
  REQUIRE(lists[0].size() == 9);
  for (std::size_t k = 1; k < 9; ++k) {
    const listed &one = lists[0][k], &before = lists[0][k - 1];
    CHECK((k % 3 == 0) == (one.to != before.to));
    if (one.to == before.to) CHECK(one.source == before.source + 3);
  }
  q.flush(recorder{lists});
  CHECK(lists.size() == 1); // nothing is left
}

TEST_CASE("a list for each kind of source, launched when it holds as many as a launch takes, and forgotten on demand") {
  std::vector<std::vector<listed>> lists;
  double norm = 0;
  queue q;
  CHECK(rows.shares_launches());
  CHECK(layer.shares_launches());
  CHECK_FALSE(waiting(cuda::materialized<float>(nullptr, 2, 5000)).shares_launches());
  for (isize k = 0; k < rows.kind()->most; ++k) {
    CHECK(lists.empty());
    q.add({&rows, &norm, nullptr}, recorder{lists});
    if (k < 3) q.add({&layer, &norm, nullptr}, recorder{lists});
  }
  REQUIRE(lists.size() == 1);
  CHECK(std::ssize(lists[0]) == rows.kind()->most);
  q.add({&rows, &norm, nullptr}, recorder{lists});
  q.flush(recorder{lists});
  REQUIRE(lists.size() == 3);
  CHECK(lists[1].size() + lists[2].size() == 4);
  q.add({&rows, &norm, nullptr}, recorder{lists});
  q.forget();
  q.flush(recorder{lists});
  CHECK(lists.size() == 3);
}
