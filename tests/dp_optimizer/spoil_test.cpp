// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/dp_optimizer/spoil.hpp"

#include "support/catch.hpp"

#include "dpopt/core/error.hpp"
#include "support/no_entropy.hpp"

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <set>
#include <span>
#include <vector>

using namespace dpopt;
using dpopt::test::no_entropy;

namespace {

/// The operating system's, n times; then nothing.
struct failing_later {
  int* left;
  void operator()(std::span<std::byte> out) const {
    if (--*left < 0) no_entropy{}(out);
    system_entropy{}(out);
  }
};

} // namespace

TEST_CASE("spoiled integers are words of which none comes twice, whatever the operating system has to give") {
  for (const int calls : {1 << 20, 1, 0}) {
    std::set<std::int64_t> words;
    for (int start = 0; start < 2; ++start) { // two ranks, or two runs
      integer_mask mask;
      mask.draw_key();
      int left = calls;
      for (int sum = 0; sum < 2; ++sum) {
        std::vector<std::int64_t> numbers(75, 6);
        mask.spoil(std::span(numbers).first(74), failing_later{&left});
        words.insert(numbers.begin(), numbers.end());
        CHECK(numbers.back() == 6); // behind the sum
      }
    }
    CHECK(words.size() == 4 * 74 + 1);
    CHECK(std::ranges::count_if(words, [](std::int64_t w) { return std::abs(static_cast<double>(w)) < 0x1p40; }) == 1);
  }
}

TEST_CASE("a mask whose key cannot be drawn says so while ranks can still agree") {
  integer_mask mask;
  CHECK_THROWS_AS(mask.draw_key(no_entropy{}), randomness_error);
  CHECK_THROWS_WITH(mask.draw_key(no_entropy{}), contains_text("mask of sums") && contains_text(no_entropy::cause));
}

TEST_CASE("spoiled floating-point numbers are NaN") {
  std::vector<float> numbers(3, 1);
  spoil(std::span(numbers).first(2));
  CHECK(std::isnan(numbers[0]));
  CHECK(std::isnan(numbers[1]));
  CHECK(numbers[2] == 1);
}
