// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// Frequencies: two-sided significance 5.7e-7 a check (5 standard errors), fixed seeds.
#include "dpopt/noise/exact_coin.hpp"

#include "support/catch.hpp"
#include "support/discrete_law.hpp"
#include "support/word_sources.hpp"

#include <cmath>
#include <cstdint>
#include <random>
#include <utility>
#include <vector>

using dpopt::exact_coin;
using namespace dpopt::test;

namespace {

using fraction = std::pair<std::uint64_t, std::uint64_t>;
constexpr std::uint64_t largest = exact_coin<std::mt19937_64>::largest_denominator;

static_assert(dpopt::WordSource<std::mt19937_64> && dpopt::WordSource<scripted_words>);
static_assert(!dpopt::WordSource<std::mt19937>); // 32 random bits in 64

bool flip(const fraction& p, std::vector<std::uint64_t> digits, std::size_t* words = nullptr) {
  scripted_words source{words_of(digits)};
  exact_coin coin(source);
  const bool out = coin.bernoulli(p.first, p.second);
  if (words != nullptr) *words = source.used;
  return out;
}

template <class Flip>
double frequency_score(std::uint64_t seed, double probability, Flip f) {
  constexpr int trials = 200000;
  std::mt19937_64 source(seed);
  exact_coin coin(source);
  double successes = 0;
  for (int i = 0; i < trials; ++i) successes += f(coin) ? 1 : 0;
  return binomial_score(successes, trials, probability);
}

} // namespace

TEST_CASE("a coin of n / d shows the digits of n / d in base 65536, each of them exactly") {
  // Of the 65536 first digits floor(n 65536 / d) give true, and one asks for a second digit unless d divides. That
  // holds for the rest again, and so for ever: no probability is rounded.
  for (const fraction& p : {fraction{1, 3},
                            {2, 3},
                            {6, 7},
                            {1, 10},
                            {1, 65537},
                            {65535, 65536},
                            {1, largest},
                            {largest - 1, largest},
                            {largest / 3, largest - 1},
                            {0x2AAAAAAAAAAAu, 0x7FFFFFFFFFFDu}}) {
    const auto [n, d] = p;
    INFO(n << " / " << d);
    const std::uint64_t certain = n * 65536 / d;
    const std::uint64_t rest = n * 65536 - certain * d;
    REQUIRE(rest < d);
    std::uint64_t wrong = 0;
    for (std::uint64_t digit = 0; digit < 65536; ++digit) {
      // The digits after the first are 0 and then 0xFFFF: true and false wherever they are asked.
      const bool low = flip(p, {digit, 0, 0, 0});
      const bool high = flip(p, {digit, 0xFFFFu, 0xFFFFu, 0xFFFFu});
      const bool asked = digit == certain && rest > 0;
      if (low != (digit < certain || asked) || high != (digit < certain)) ++wrong;
    }
    CHECK(wrong == 0);
    if (rest == 0) continue;
    std::uint64_t second = 0; // true among all second digits: of the rest
    for (std::uint64_t digit = 0; digit < 65536; ++digit)
      second += flip(p, {certain, digit, 0xFFFFu, 0xFFFFu}) ? 1u : 0u;
    CHECK(second == rest * 65536 / d);
  }
}

TEST_CASE("certain coins cost no bits, and words of all zeros or all ones end every coin") {
  std::size_t words = 99;
  CHECK(flip({7, 7}, {}, &words));
  CHECK(words == 0);
  CHECK_FALSE(flip({0, 7}, {}, &words));
  CHECK(words == 0);
  for (const fraction& p : {fraction{1, 2}, {1, 3}, {1, largest}, {largest - 1, largest}, {12345, 67890}}) {
    scripted_words zeros{{}, 0};
    exact_coin lucky(zeros);
    CHECK(lucky.bernoulli(p.first, p.second));
    scripted_words ones;
    exact_coin unlucky(ones);
    CHECK_FALSE(unlucky.bernoulli(p.first, p.second));
    CHECK(zeros.used <= 1); // 4 digits each, of which at most 3 are needed
    CHECK(ones.used <= 1);
  }
}

TEST_CASE("the frequency of n / d is n / d") {
  std::uint64_t seed = 100;
  for (const fraction& p : {fraction{1, 2}, {1, 3}, {999, 1000}, {1, 1000}, {largest / 5, largest}}) {
    const double probability = static_cast<double>(p.first) / static_cast<double>(p.second);
    INFO(probability);
    CHECK(std::abs(frequency_score(++seed, probability, [&](auto& c) { return c.bernoulli(p.first, p.second); })) <
          unlikely);
  }
}

TEST_CASE("the frequency of exp(-n / d) is exp(-n / d)") {
  std::uint64_t seed = 200;
  for (const fraction& p :
       {fraction{1, 1}, {1, 2}, {1, 3}, {9, 10}, {1, 100}, {largest / 7, largest}, {largest - 1, largest}}) {
    const double x = static_cast<double>(p.first) / static_cast<double>(p.second);
    INFO(x);
    CHECK(std::abs(frequency_score(++seed, std::exp(-x), [&](auto& c) { return c.exp_minus(p.first, p.second); })) <
          unlikely);
  }
}

TEST_CASE("the frequency of exp(-(n / d)^2 / 2) is exp(-(n / d)^2 / 2)") {
  std::uint64_t seed = 300;
  for (const fraction& p : {fraction{1, 1}, {1, 2}, {9, 10}, {1, 10}, {largest / 3, largest}}) {
    const double x = static_cast<double>(p.first) / static_cast<double>(p.second);
    INFO(x);
    CHECK(std::abs(frequency_score(++seed, std::exp(-x * x / 2),
                                   [&](auto& c) { return c.exp_minus_half_square(p.first, p.second); })) < unlikely);
  }
  std::mt19937_64 source(1);
  exact_coin coin(source);
  const std::uint64_t before = std::mt19937_64(1)();
  CHECK(coin.exp_minus(0, 5)); // exp(0), without a bit
  CHECK(coin.exp_minus_half_square(0, 5));
  CHECK(coin.word() == before);
}
