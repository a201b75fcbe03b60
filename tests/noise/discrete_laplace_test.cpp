// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// Statistics: two-sided significance 5.7e-7 a check (5 standard errors), fixed seeds.
#include "dpopt/noise/discrete_laplace.hpp"

#include "support/catch.hpp"
#include "support/discrete_law.hpp"
#include "support/word_sources.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

using dpopt::discrete_laplace;
using dpopt::exact_coin;
using namespace dpopt::test;

namespace {

std::vector<std::int64_t> draw(int k, std::uint64_t seed, int n) {
  std::mt19937_64 source(seed);
  exact_coin coin(source);
  std::vector<std::int64_t> out(static_cast<std::size_t>(n));
  for (std::int64_t& x : out) x = discrete_laplace(coin, k);
  return out;
}

} // namespace

TEST_CASE("the frequencies are those of exp(-|x| / t), 0 included") {
  for (const int k : {0, 1, 2, 5}) {
    const discrete_law law = discrete_law::laplace(std::ldexp(1.0, k));
    INFO("k " << k);
    CHECK(std::abs(fit_score(draw(k, 11 + static_cast<std::uint64_t>(k), 300000),
                             [&](std::int64_t x) { return law.probability(x); })) < unlikely);
  }
  // The comparison finds 0 drawn twice as often, or never.
  const discrete_law law = discrete_law::laplace(2);
  auto sample = draw(1, 12, 300000);
  std::erase(sample, 0);
  CHECK(std::abs(fit_score(sample, [&](std::int64_t x) { return law.probability(x); })) > unlikely);
}

TEST_CASE("a wide scale is an exponential with a sign") {
  constexpr int n = 300000;
  const std::vector<std::int64_t> sample = draw(46, 13, n);
  double beyond_2 = 0, beyond_9 = 0, negative = 0, odd = 0, sum = 0;
  for (const std::int64_t x : sample) {
    const double size = std::ldexp(std::abs(static_cast<double>(x)), -46);
    beyond_2 += size > 2 ? 1 : 0;
    beyond_9 += size > 9 ? 1 : 0;
    negative += x < 0 ? 1 : 0;
    odd += x % 2 != 0 ? 1 : 0;
    sum += size;
  }
  CHECK(std::abs(binomial_score(beyond_2, n, std::exp(-2.0))) < unlikely);
  CHECK(std::abs(binomial_score(beyond_9, n, std::exp(-9.0))) < unlikely); // expected 37 times
  CHECK(std::abs(binomial_score(negative, n, 0.5)) < unlikely);
  CHECK(std::abs(binomial_score(odd, n, 0.5)) < unlikely);
  CHECK(std::abs(sum / n - 1) * std::sqrt(double{n}) < unlikely);
}

TEST_CASE("the tail is not cut off: a thousand multiples of the scale can be drawn") {
  for (const int k : {0, 20, 46}) {
    for (const std::uint64_t sign : {std::uint64_t{0}, std::uint64_t{1} << 63}) {
      std::vector<std::uint64_t> digits = digits_of_successes(1000);
      const std::uint64_t rest = k > 0 ? 5 : 0;
      if (rest > 0) digits.insert(digits.begin(), 0xFFFFu); // the coin of exp(-rest / t)
      scripted_words source{words_of(digits)};
      source.script.insert(source.script.begin(), rest | sign);
      exact_coin coin(source);
      const std::int64_t size = (std::int64_t{1000} << k) + static_cast<std::int64_t>(rest);
      CHECK(discrete_laplace(coin, k) == (sign == 0 ? size : -size));
    }
  }
}

TEST_CASE("minus 0 is drawn again") {
  // word: sign set, rest 0; then no multiple; then the word of 3 with no multiple.
  scripted_words source{{std::uint64_t{1} << 63, ~std::uint64_t{0}, 3}};
  exact_coin coin(source);
  CHECK(discrete_laplace(coin, 4) == 3);
}

TEST_CASE("a source that never fails a coin is an error and no endless loop") {
  scripted_words source{{0}, 0xFFFF0000FFFF0000u};
  exact_coin coin(source);
  CHECK_THROWS_AS(discrete_laplace(coin, 0), dpopt::randomness_error);
}
