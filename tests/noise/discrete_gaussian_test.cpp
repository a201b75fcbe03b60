// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// Statistics: two-sided significance 5.7e-7 a check (5 standard errors), 9.3e-7 for Kolmogorov-Smirnov; fixed seeds.
#include "dpopt/noise/discrete_gaussian.hpp"

#include "support/catch.hpp"
#include "support/discrete_law.hpp"
#include "support/word_sources.hpp"

#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

using dpopt::discrete_gaussian;
using dpopt::exact_coin;
using namespace dpopt::test;

namespace {

std::vector<std::int64_t> draw(double std, std::uint64_t seed, int n) {
  const discrete_gaussian distribution = discrete_gaussian::at_least(std);
  std::mt19937_64 source(seed);
  exact_coin coin(source);
  std::vector<std::int64_t> out(static_cast<std::size_t>(n));
  for (std::int64_t& x : out) x = distribution.draw(coin);
  return out;
}

double score_against(const discrete_law& law, const std::vector<std::int64_t>& sample) {
  return std::abs(fit_score(sample, [&](std::int64_t x) { return law.probability(x); }));
}

} // namespace

TEST_CASE("the frequencies are those of exp(-x^2 / (2 sigma^2)), for small and large sigma") {
  std::uint64_t seed = 20;
  for (const double sigma : {0.3, 0.5, 0.9, 1.0, 1.3, 1.414, 2.0, 2.76, 5.0, 17.3})
    for (int repetition = 0; repetition < 2; ++repetition) {
      INFO("sigma " << sigma);
      CHECK(score_against(discrete_law::gaussian(sigma), draw(sigma, ++seed, 150000)) < unlikely);
    }
}

TEST_CASE("the comparison finds a sigma that is 3 % off") {
  CHECK(score_against(discrete_law::gaussian(2.06), draw(2.0, 50, 150000)) > unlikely);
  CHECK(score_against(discrete_law::gaussian(0.515), draw(0.5, 51, 150000)) > unlikely);
}

TEST_CASE("the variance is that of the law, which is below sigma^2 for small sigma") {
  for (const double sigma : {0.4, 0.7, 3.0}) {
    const discrete_law law = discrete_law::gaussian(sigma);
    const auto sample = draw(sigma, 60, 200000);
    double sum = 0, fourth = 0;
    for (const std::int64_t x : sample) sum += static_cast<double>(x * x);
    for (std::int64_t x = -200; x <= 200; ++x) fourth += law.probability(x) * static_cast<double>(x * x * x * x);
    const double n = static_cast<double>(sample.size());
    INFO("sigma " << sigma);
    CHECK(std::abs(sum / n - law.variance()) < unlikely * std::sqrt((fourth - law.variance() * law.variance()) / n));
    CHECK(law.variance() <= sigma * sigma * (1 + 1e-15));
  }
  CHECK(discrete_law::gaussian(1.1).variance() > 1.21 * (1 - 1e-8)); // as the header says
}

TEST_CASE("on a fine grid it is a Gaussian, up to 2^46 units") {
  std::uint64_t seed = 70;
  for (const double std : {0x1p20, 0x1.0cp36, 0x1.5fp36, 0x1.61p36, 0x1.ep36, 0x1p45, 0x1p46}) {
    std::vector<double> x;
    for (const std::int64_t v : draw(std, ++seed, 60000)) x.push_back(static_cast<double>(v) / std);
    INFO("std " << std);
    for (int k = 1; k <= 4; ++k) CHECK(std::abs(moment_score(x, k)) < unlikely);
    for (const double limit : {0.5, 1.0, 2.0, 3.0}) CHECK(std::abs(tail_score(x, limit)) < unlikely);
    CHECK(normal_distance(x) < unlikely_distance);
  }
}

TEST_CASE("every bit of a wide number is random: low bits are uniform, and so are the bits of its parts") {
  const auto sample = draw(0x1.3p40, 80, 128000);
  for (const int shift : {0, 8, 16, 24, 30}) {
    std::vector<double> counts(256), expected(256, static_cast<double>(sample.size()) / 256);
    for (const std::int64_t x : sample) ++counts[static_cast<std::size_t>((x >> shift) & 255)];
    INFO("shift " << shift);
    CHECK(std::abs(chi_square_score(counts, expected)) < unlikely);
  }
}

TEST_CASE("neighbours are independent, and so are their squares") {
  std::vector<double> x, y;
  const auto sample = draw(0x1p30, 90, 100001);
  for (std::size_t i = 0; i + 1 < sample.size(); ++i) {
    x.push_back(static_cast<double>(sample[i]) * 0x1p-30);
    y.push_back(static_cast<double>(sample[i + 1]) * 0x1p-30);
  }
  CHECK(std::abs(correlation_score(x, y)) < unlikely);
  CHECK(std::abs(correlation_score(x, y, true)) < unlikely);
}

TEST_CASE("a number at 40 scales from 0 is reachable, exactly") {
  for (const double std : {0x1p36, 0x1.8p36, 3.0}) {
    const double t =
        std::exp2(std::floor(std::log2(std)) + (std == 0x1p36 ? 0 : 1)); // the scale that header's rule gives
    const int k = static_cast<int>(std::log2(t));
    std::vector<std::uint64_t> digits = digits_of_successes(40);
    digits.insert(digits.begin(), 0xFFFFu);  // the coin of exp(-1 / t)
    scripted_words source{words_of(digits)}; // every later coin of an exponential comes up true with 0xFFFF
    source.script.insert(source.script.begin(), 1);
    exact_coin coin(source);
    CHECK(discrete_gaussian::at_least(std).draw(coin) == (std::int64_t{40} << k) + 1);
  }
}

TEST_CASE("sigma is a little above the std that was asked for, never below, also after rounding on the way") {
  std::mt19937_64 random(5);
  double least = 1, most = 0;
  for (int i = 0; i < 100000; ++i) {
    const double std = std::ldexp(0.7 + static_cast<double>(random() >> 11) * 0x1p-53, static_cast<int>(random() % 45));
    const double excess = discrete_gaussian::at_least(std).sigma() / std - 1;
    least = std::min(least, excess);
    most = std::max(most, excess);
  }
  CHECK(least > 0x1p-24);
  CHECK(most < 0x1p-21);
  for (const double std : {1.0, 5.0, 0x1p36, 0x1p46, 0x1.fffffffffffffp44, 0x1.6p20, 0x1.5ffffffffffffp20}) {
    INFO("std " << std);
    CHECK(discrete_gaussian::at_least(std).sigma() > std * (1 + 0x1p-24));
    CHECK(discrete_gaussian::at_least(std).sigma() < std * (1 + 0x1p-21));
  }
  for (const double std : {1e-300, 1e-9, 0.01, 0.3, 0.6}) {
    INFO("std " << std);
    CHECK(discrete_gaussian::at_least(std).sigma() > std);
    CHECK(discrete_gaussian::at_least(std).sigma() <= std + 0x1p-22);
  }
}

TEST_CASE("a tiny sigma draws zeros") {
  for (const std::int64_t x : draw(1e-12, 95, 1000)) REQUIRE(x == 0);
}

TEST_CASE("a std that is not positive, not finite or too wide is refused with what to do") {
  for (const double bad : {0.0, -1.0, 0x1.0000000000001p46, std::numeric_limits<double>::infinity(),
                           std::numeric_limits<double>::quiet_NaN()})
    CHECK_THROWS_AS(discrete_gaussian::at_least(bad), dpopt::invalid_argument);
  CHECK_THROWS_WITH(
      discrete_gaussian::at_least(0x1p47),
      "discrete_gaussian: the standard deviation is 140737488355328 grid units; use more than 0 and at most "
      "70368744177664: fewer fraction_bits or a smaller noise multiplier");
}
