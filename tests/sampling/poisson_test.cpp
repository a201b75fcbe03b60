// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "support/catch.hpp"
#include "support/ranks.hpp"

#include "dpopt/sampling/poisson.hpp"

#include <algorithm>
#include <cmath>
#include <mutex>
#include <set>

using namespace dpopt;
using dpopt::test::run_ranks;

namespace {

/// Union over W ranks of the first `draws` logical batches.
std::vector<std::vector<isize>> drawn_by(int W, isize records, double rate, int draws) {
  std::vector<std::vector<isize>> out(static_cast<std::size_t>(draws));
  std::mutex mutex;
  const auto failures = run_ranks(W, [&](threads comm) {
    poisson_sampler sampler(comm, records, rate, counter_bits{.seed = 11});
    for (auto& batch : out) {
      const auto mine = sampler.next();
      const std::lock_guard lock(mutex);
      batch.insert(batch.end(), mine.records.begin(), mine.records.end());
    }
  });
  for (const auto& f : failures)
    if (f) std::rethrow_exception(f);
  for (auto& batch : out) std::ranges::sort(batch);
  return out;
}

} // namespace

TEST_CASE("poisson: the union over ranks is the same for any number of ranks, without a record twice") {
  const auto one = drawn_by(1, 203, 0.3, 5);
  for (int W = 2; W <= 5; ++W) CHECK(drawn_by(W, 203, 0.3, 5) == one);
  for (const auto& batch : one) {
    CHECK(std::set<isize>(batch.begin(), batch.end()).size() == batch.size());
    CHECK(batch.front() >= 0);
    CHECK(batch.back() < 203);
  }
  CHECK(one[0] != one[1]);
}

TEST_CASE("poisson: shards cover all records once, also with more ranks than records") {
  for (int W = 1; W <= 5; ++W) CHECK(drawn_by(W, 3, 1.0, 1)[0] == std::vector<isize>{0, 1, 2});
}

TEST_CASE("poisson: each record comes with probability rate, independently of the others and of other draws") {
  constexpr isize records = 2000;
  constexpr int draws = 400;
  constexpr double rate = 0.07;
  poisson_sampler sampler(records, rate, counter_bits{.seed = 5});
  std::vector<int> count(records, 0);
  double sizes = 0, squares = 0, neighbours = 0;
  for (int d = 0; d < draws; ++d) {
    const auto batch = sampler.next();
    std::vector<char> in(records, 0);
    for (const isize i : batch.records) {
      ++count[static_cast<std::size_t>(i)];
      in[static_cast<std::size_t>(i)] = 1;
    }
    for (std::size_t i = 1; i < in.size(); ++i) neighbours += in[i] && in[i - 1] ? 1 : 0;
    sizes += static_cast<double>(batch.records.size());
    squares += std::pow(static_cast<double>(batch.records.size()) - rate * records, 2);
  }
  // Two-sided tests at significance about 1e-6 (4.9 standard deviations), fixed seed.
  const double trials = static_cast<double>(records) * draws;
  CHECK(std::abs(sizes - rate * trials) < 4.9 * std::sqrt(trials * rate * (1 - rate)));
  const double variance = records * rate * (1 - rate);
  CHECK(std::abs(squares / draws / variance - 1) < 4.9 * std::sqrt(2.0 / draws));
  const double pairs = trials - draws, both = rate * rate;
  CHECK(std::abs(neighbours - both * pairs) < 4.9 * std::sqrt(pairs * both * (1 - both) * 1.2));
  double chi2 = 0;
  for (const int c : count) chi2 += std::pow(c - rate * draws, 2) / (draws * rate * (1 - rate));
  CHECK(std::abs(chi2 - records) < 4.9 * std::sqrt(2.0 * records));
}

TEST_CASE("poisson: the token tells the rate and the draw, and the expected size is exact") {
  poisson_sampler sampler(1000, 0.0625, counter_bits{.seed = 1});
  const auto first = sampler.next();
  const auto second = sampler.next();
  CHECK(first.token.scheme == sampling_scheme::poisson);
  CHECK(first.token.rate == 0.0625);
  CHECK(second.token.draw == first.token.draw + 1);
  CHECK(sampler.expected_batch_size().over(4) == 62.5); // no truncation to whole records, whatever the ranks
}

TEST_CASE("poisson: a seed makes it reproducible and says so; without one no two runs agree") {
  const auto draw = [](counter_bits source) {
    poisson_sampler sampler(500, 0.5, source);
    return std::pair{sampler.next().records, sampler.reproducible()};
  };
  CHECK(draw({.seed = 7}) == draw({.seed = 7}));
  CHECK(draw({.seed = 7}).first != draw({.seed = 8}).first);
  CHECK(draw({.seed = 7}).second);
  CHECK_FALSE(draw({}).second);
  CHECK(draw({}).first != draw({}).first); // fails by chance once in 2^500
}

TEST_CASE("poisson: bad options are named, and ranks that differ all throw") {
  CHECK_THROWS_WITH(poisson_sampler(0, 0.5), contains_text("records is 0"));
  CHECK_THROWS_WITH(poisson_sampler(10, 0.0), contains_text("rate is 0"));
  CHECK_THROWS_WITH(poisson_sampler(10, 1.5), contains_text("rate is 1.5"));
  CHECK_THROWS_WITH(poisson_sampler(10, std::nan("")), contains_text("rate is nan"));
  const auto failures = run_ranks(3, [&](threads comm) {
    poisson_sampler sampler(comm, 10, comm.rank() == 1 ? 0.25 : 0.5);
    static_cast<void>(sampler);
  });
  for (const auto& f : failures) {
    REQUIRE(f);
    CHECK_THROWS_WITH(std::rethrow_exception(f), contains_text("sampling rate (rank 1 differs from rank 0)"));
  }
}

TEST_CASE("poisson: more records than there are random bits for is an error of all ranks, and not of the last one") {
  const auto errors = run_ranks(2, [](threads comm) { poisson_sampler sampler(comm, isize{1} << 38, 1e-12); });
  for (const auto& error : errors) CHECK_THAT(dpopt::test::error_text(error), contains_text("stream is exhausted"));
  CHECK_NOTHROW(poisson_sampler(isize{1} << 37, 1e-12));
}
