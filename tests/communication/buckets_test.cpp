// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/communication/buckets.hpp"

#include "support/catch.hpp"

#include <algorithm>
#include <cstddef>
#include <limits>
#include <numeric>
#include <optional>
#include <string>
#include <vector>

using namespace dpopt;

namespace {

/// Calls f with every list of `length` sizes taken from 0, 1, 2, 5.
template <class F>
void for_each_sizes(isize length, F f) {
  const isize choices[] = {0, 1, 2, 5};
  std::vector<isize> sizes(static_cast<std::size_t>(length));
  isize lists = 1;
  for (isize i = 0; i < length; ++i) lists *= 4;
  for (isize code = 0; code < lists; ++code) {
    isize rest = code;
    for (isize& n : sizes) {
      n = choices[rest % 4];
      rest /= 4;
    }
    f(sizes);
  }
}

/// What is wrong with a plan; empty when nothing is. Written from the documentation, not from the code.
std::string plan_problem(const bucket_plan& plan, const std::vector<isize>& sizes, isize capacity) {
  if (plan.parameters() != std::ssize(sizes)) return "number of parameters";
  if (plan.total() != std::accumulate(sizes.begin(), sizes.end(), isize{0})) return "total";
  isize offset = 0;
  isize previous_bucket = 0;
  for (isize p = plan.parameters() - 1; p >= 0; --p) { // the last parameter lies first, without gaps
    if (plan.size(p) != sizes[static_cast<std::size_t>(p)]) return "size";
    if (plan.offset(p) != offset) return "offset";
    offset += plan.size(p);
    const isize k = plan.bucket_of(p);
    if (k != previous_bucket && k != previous_bucket + 1) return "bucket order";
    previous_bucket = k;
    const bucket& b = plan.buckets()[static_cast<std::size_t>(k)];
    if (plan.offset(p) < b.first || plan.offset(p) + plan.size(p) > b.first + b.size) return "outside its bucket";
    if (p < b.lowest_parameter || p >= b.lowest_parameter + b.members) return "not among its bucket's members";
  }
  isize end = 0;
  isize members = 0;
  isize previous_size = -1;
  for (const bucket& b : plan.buckets()) {
    if (b.first != end) return "buckets have gaps";
    end += b.size;
    members += b.members;
    if (b.members < 1) return "bucket without members";
    const isize first_size = plan.size(b.lowest_parameter + b.members - 1);
    if (b.size > capacity && b.size != first_size) return "over capacity and not one large parameter";
    if (previous_size >= 0 && previous_size + first_size <= capacity) return "a bucket was closed too early";
    if (previous_size >= 0 && first_size == 0) return "an empty parameter opened a bucket";
    previous_size = b.size;
  }
  if (end != plan.total() || members != plan.parameters()) return "buckets do not cover everything";
  return {};
}

} // namespace

TEST_CASE("parameters lie in reverse order of registration, packed into buckets") {
  const std::vector<isize> sizes{10, 4, 0, 3, 20};
  const bucket_plan plan(sizes, 8);
  CHECK(plan.total() == 37);
  CHECK(plan.offset(4) == 0);
  CHECK(plan.offset(3) == 20);
  CHECK(plan.offset(2) == 23);
  CHECK(plan.offset(1) == 23);
  CHECK(plan.offset(0) == 27);
  REQUIRE(plan.buckets().size() == 3);
  CHECK(plan.buckets()[0].size == 20); // larger than the capacity: alone
  CHECK(plan.buckets()[1].size == 7);
  CHECK(plan.buckets()[1].members == 3);
  CHECK(plan.buckets()[1].lowest_parameter == 1);
  CHECK(plan.buckets()[2].first == 27);
  CHECK(plan.bucket_of(2) == 1);
}

TEST_CASE("every plan of up to 5 parameters is contiguous, in order and within capacity") {
  for (isize count = 0; count <= 5; ++count)
    for (const isize capacity : {1, 2, 3, 6, 100})
      for_each_sizes(count, [&](const std::vector<isize>& sizes) {
        const std::string problem = plan_problem(bucket_plan(sizes, capacity), sizes, capacity);
        if (!problem.empty())
          FAIL(problem << ": capacity " << capacity << ", sizes " << Catch::Detail::stringify(sizes));
      });
  CHECK(bucket_plan().buckets().empty());
}

TEST_CASE("only empty parameters still make one bucket, so that someone waits for them") {
  const std::vector<isize> sizes{0, 0, 0};
  const bucket_plan plan(sizes, 4);
  REQUIRE(plan.buckets().size() == 1);
  CHECK(plan.buckets()[0].size == 0);
  CHECK(plan.buckets()[0].members == 3);
  bucket_progress progress(plan);
  progress.contributed(1);
  progress.contributed(0);
  CHECK(progress.next_ready() == std::nullopt);
  progress.contributed(2);
  CHECK(progress.next_ready() == 0);
}

TEST_CASE("wrong sizes and capacities are refused by name") {
  const std::vector<isize> negative{3, -2};
  const std::vector<isize> huge{1, std::numeric_limits<isize>::max()};
  const std::vector<isize> fine{3};
  CHECK_THROWS_WITH(bucket_plan(negative, 8), "parameter 1 has -2 elements; give 0 or more");
  CHECK_THROWS_AS(bucket_plan(huge, 8), invalid_argument);
  CHECK_THROWS_WITH(bucket_plan(fine, 0), "bucket capacity is 0 elements; give 1 or more");
  CHECK_THROWS_AS(bucket_plan(fine, -1), invalid_argument);
}

TEST_CASE("buckets start in one order and as early as they may, whatever the order of arrival") {
  for (isize count = 0; count <= 5; ++count)
    for (const isize capacity : {1, 3, 100}) {
      std::vector<isize> sizes(static_cast<std::size_t>(count));
      for (isize p = 0; p < count; ++p) sizes[static_cast<std::size_t>(p)] = (p + 1) % 3; // 1, 2, 0, 1, 2
      bucket_progress progress(bucket_plan(sizes, capacity));
      const bucket_plan& plan = progress.plan();
      std::vector<isize> arrival(sizes.size());
      std::iota(arrival.begin(), arrival.end(), isize{0});
      do {
        progress.reset();
        isize expected = 0;
        for (std::size_t i = 0; i < arrival.size(); ++i) {
          progress.contributed(arrival[i]);
          while (const std::optional<isize> k = progress.next_ready()) REQUIRE(*k == expected++);
          // the next bucket lacks a member that has not arrived yet
          const bool one_lacks = std::any_of(arrival.begin() + static_cast<isize>(i) + 1, arrival.end(),
                                             [&](isize p) { return plan.bucket_of(p) == expected; });
          REQUIRE((expected == std::ssize(plan.buckets()) || one_lacks));
        }
        REQUIRE(progress.all_started());
        REQUIRE(progress.rest() == std::nullopt);
      } while (std::next_permutation(arrival.begin(), arrival.end()));
    }
}

TEST_CASE("with any parameters missing, the rest completes the same sequence") {
  const std::vector<isize> sizes{2, 1, 0, 2, 2};
  bucket_progress progress(bucket_plan(sizes, 3));
  for (unsigned present = 0; present < 32; ++present) {
    progress.reset();
    std::vector<isize> order;
    for (isize p = 0; p < 5; ++p) // the unnatural order: first layer first
      if ((present >> p & 1u) != 0) {
        progress.contributed(p);
        while (const std::optional<isize> k = progress.next_ready()) order.push_back(*k);
      }
    while (const std::optional<isize> k = progress.rest()) order.push_back(*k);
    CHECK(order == std::vector<isize>{0, 1, 2});
    for (isize p = 0; p < 5; ++p) CHECK(progress.has_contributed(p) == ((present >> p & 1u) != 0));
  }
}

TEST_CASE("a parameter contributes once a step, and not after its bucket started") {
  const std::vector<isize> sizes{1, 1};
  bucket_progress progress(bucket_plan(sizes, 1));
  progress.contributed(1);
  CHECK_THROWS_WITH(progress.contributed(1), "parameter 1 was contributed twice in one step");
  CHECK(progress.next_ready() == 0);
  CHECK(progress.rest() == 1);
  CHECK_THROWS_WITH(progress.contributed(0), "parameter 0 came after its bucket started");
  CHECK_THROWS_AS(progress.contributed(2), invalid_argument);
  CHECK_THROWS_AS(progress.contributed(-1), invalid_argument);
  progress.reset();
  CHECK_FALSE(progress.all_started());
  CHECK_NOTHROW(progress.contributed(0));
  CHECK(progress.next_ready() == std::nullopt); // bucket 1 is full, but 0 has not started
}
