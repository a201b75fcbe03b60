// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/dp_optimizer/control_message.hpp"

#include "support/catch.hpp"

#include <cmath>
#include <cstdint>
#include <vector>

using namespace dpopt;

namespace {

control_message declared(bool failed, double digest) {
  control_message m;
  m.declare(failed, digest);
  return m;
}

control_message sum_of(std::vector<control_message> messages) {
  control_message total = messages.back();
  messages.pop_back();
  for (control_message& m : messages)
    for (isize k = 0; k < m.size(); ++k) total.data()[k] += m.data()[k];
  return total;
}

const step_declaration usual{
    .step = 4, .iterations = 2, .sampling_rate = 0.01, .noise_multiplier = 1.1, .noise_std = 3, .base = 7};

} // namespace

TEST_CASE("ranks that declare the same step are alike, whatever their number") {
  for (int ranks = 1; ranks <= 100; ++ranks) {
    const std::vector<control_message> all(static_cast<std::size_t>(ranks), declared(false, usual.digest()));
    REQUIRE(sum_of(all).all_alike(ranks));
    REQUIRE_FALSE(sum_of(all).any_failed());
  }
}

TEST_CASE("one rank that differs in anything is seen among any number of ranks") {
  std::vector<step_declaration> others(7, usual);
  others[0].step = 5;
  others[1].iterations = 1;
  others[2].sampling_rate = 0.02;
  others[3].noise_multiplier = std::nextafter(1.1, 2);
  others[4].noise_std = 6;
  others[5].base = 8;
  others[6].updates = 3;
  for (const step_declaration& other : others)
    for (const int ranks : {2, 3, 8, 64, 1000}) {
      std::vector<control_message> all(static_cast<std::size_t>(ranks - 1), declared(false, usual.digest()));
      all.push_back(declared(false, other.digest()));
      CHECK_FALSE(sum_of(all).all_alike(ranks));
    }
}

TEST_CASE("the least difference is seen among the most ranks, and the largest digests of so many are alike") {
  const double most = step_declaration::digest_limit - 1;
  const auto numbers = [](double ranks, double others, double one) { // what the sum over ranks leaves
    control_message m;
    m.data()[1] = (ranks - 1) * others + one;
    m.data()[2] = (ranks - 1) * others * others + one * one;
    return m;
  };
  for (const int ranks : {2, 89, 91, 100, 1000, 8193, 131071, step_declaration::most_ranks}) {
    for (const double d : {0.0, 1.0, 2.0, most / 3, most - 1, most}) CHECK(numbers(ranks, d, d).all_alike(ranks));
    for (const double d : {0.0, 1.0, std::floor(most / 3), most - 1}) {
      CHECK_FALSE(numbers(ranks, d, d + 1).all_alike(ranks));
      CHECK_FALSE(numbers(ranks, d + 1, d).all_alike(ranks));
    }
    CHECK_FALSE(numbers(ranks, 0, most).all_alike(ranks));
  }
}

TEST_CASE("one failed rank is seen by all") {
  std::vector<control_message> all(4, declared(false, usual.digest()));
  all.push_back(declared(true, 0.0));
  CHECK(sum_of(all).any_failed());
}

TEST_CASE("the rate that ranks with batches declared is agreed on, whatever the failed ranks had") {
  std::vector<control_message> all(3);
  all[0].declare(true, 0.0);
  all[1].declare(false, 5.0, 0.25);
  all[2].declare(true, 0.0, 0.25);
  CHECK(sum_of(all).agreed_rate() == 0.25);
  CHECK(sum_of({all[0], all[0]}).agreed_rate() == 0.0);
}

TEST_CASE("the clipper's side scalars ride along, and a new declaration leaves them alone") {
  control_message m(2);
  CHECK(m.size() == 7);
  REQUIRE(m.side().size() == 2);
  m.side()[0] = 3.5;
  m.side()[1] = -1;
  m.declare(true, 9);
  CHECK(m.side()[0] == 3.5);
  CHECK(m.side()[1] == -1);
  CHECK(m.data()[5] == 3.5); // summed over ranks with the rest
  CHECK(control_message().side().empty());
  CHECK(control_message().size() == 5);
}

TEST_CASE("a digest is a whole number below its limit, so that squares and their sums are exact") {
  for (std::uint64_t step = 0; step < 1000; ++step) {
    const double d = step_declaration{.step = step}.digest();
    REQUIRE(d >= 0);
    REQUIRE(d < step_declaration::digest_limit);
    REQUIRE(d == std::floor(d));
  }
  CHECK(step_declaration::digest_limit * step_declaration::digest_limit * step_declaration::most_ranks <= 0x1p53);
}
