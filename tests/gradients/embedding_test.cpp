// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/gradients/embedding.hpp"

#include "support/random_numbers.hpp"
#include "support/source_conformance.hpp"

#include <cmath>
#include <cstdint>
#include <limits>
#include <string>
#include <vector>

using namespace dpopt;
using namespace dpopt::test;

namespace {

template <class Token>
std::vector<Token> random_tokens(isize n, isize vocabulary, int seed) {
  std::vector<Token> out;
  for (const double x : random_numbers<double>(n, seed))
    out.push_back(static_cast<Token>((x + 1) / 2 * static_cast<double>(vocabulary)));
  return out;
}

// The dense gradients that the source never makes.
template <class S>
written_out dense(const S& s) {
  written_out rows(static_cast<std::size_t>(s.batch()), std::vector<long double>(static_cast<std::size_t>(s.size())));
  for (isize i = 0; i < s.batch(); ++i)
    for (isize t = 0; t < s.positions; ++t) {
      const auto v = static_cast<isize>(s.tokens[i * s.token_sample_stride + t * s.token_position_stride]);
      if (v == s.padding_index) continue;
      const auto* g = s.output_gradients + i * s.gradient_sample_stride + t * s.gradient_position_stride;
      for (isize k = 0; k < s.dimension; ++k)
        rows[static_cast<std::size_t>(i)][static_cast<std::size_t>(v * s.dimension + k)] +=
            static_cast<long double>(g[k]);
    }
  return rows;
}

} // namespace

TEST_CASE("embedding: norms, sums and copies are those of the dense gradients, whatever repeats") {
  struct row {
    isize batch, positions, vocabulary, dimension, padding;
  };
  constexpr isize none = embedding<float>::no_padding;
  for (const row& r : {row{4, 7, 5, 3, none},
                       {4, 9, 5, 3, 2},
                       {3, 1, 6, 4, 0},
                       {2, 40, 3, 17, none},
                       {5, 6, 1, 9, none},
                       {3, 5, 700, 1, 4},
                       {0, 5, 4, 2, none},
                       {2, 0, 4, 2, none},
                       {3, 12, 3, 600, none}}) {
    const auto tokens = random_tokens<std::int32_t>(r.batch * r.positions, r.vocabulary, 7);
    const auto g = random_numbers<float>(r.batch * r.positions * r.dimension, 8);
    const embedding<float> s(tokens.data(), g.data(), r.batch, r.positions, r.vocabulary, r.dimension, r.padding);
    CHECK(s.problem().empty());
    source_conforms(s, dense(s));
  }
}

TEST_CASE("embedding: time-major data, wide tokens and wide numbers") {
  const isize batch = 3, positions = 6, dimension = 4;
  const auto tokens = random_tokens<std::int64_t>(batch * positions, 4, 1);
  const auto g = random_numbers<double>(batch * positions * dimension, 2);
  embedding<double, std::int64_t> s(tokens.data(), g.data(), batch, positions, 4, dimension, 3);
  s.token_sample_stride = 1, s.token_position_stride = batch;
  s.gradient_sample_stride = dimension, s.gradient_position_stride = batch * dimension;
  source_conforms(s, dense(s));
}

TEST_CASE("embedding: tokens that all samples share, and rows with gaps; gradients that samples share are a problem") {
  const auto tokens = random_tokens<std::int32_t>(6, 4, 1);
  const auto g = random_numbers<float>(3 * 6 * 5, 2);
  embedding<float> s(tokens.data(), g.data(), 3, 6, 4, 4);
  s.token_sample_stride = 0;
  s.gradient_sample_stride = 30, s.gradient_position_stride = 5;
  CHECK(s.problem().empty());
  source_conforms(s, dense(s));
  s.gradient_sample_stride = 24;
  CHECK_THAT(s.problem(), contains_text("embedding: the gradient strides let samples share numbers"));
  s.gradient_sample_stride = 30, s.token_sample_stride = 1; // windows over one text: a token would be two samples'
  CHECK_THAT(s.problem(), contains_text("embedding: the token strides let samples share numbers"));
}

TEST_CASE("embedding: the norm of a repeated token is that of the sum, whether rows add up or cancel") {
  const std::vector<std::int32_t> tokens = {1, 1, 1, 1, 0, 0, 2, 2};
  const std::vector<float> g = {3, 3, 3, 3, 5, -5, 1, 1e-4F};
  const embedding<float> s(tokens.data(), g.data(), 2, 4, 3, 1);
  const std::vector<double> squares = squared_norms_of(s);
  CHECK(squares[0] == Approx(144)); // not 4 x 9
  CHECK(squares[1] == Approx(1.0001 * 1.0001));
  CHECK(sum_of<double>(s, {1, 0})[1] == Approx(12));
}

TEST_CASE("embedding: padding has no part in norm and sum, may lie outside of the vocabulary, and is not read") {
  const float nan = std::numeric_limits<float>::quiet_NaN();
  for (const std::int32_t padding : {0, -100}) {
    const std::vector<std::int32_t> tokens = {1, padding, 2, padding};
    const std::vector<float> g = {3, nan, 4, nan};
    const embedding<float> s(tokens.data(), g.data(), 1, 4, 3, 1, padding);
    CHECK(s.problem().empty());
    CHECK(squared_norms_of(s)[0] == Approx(25));
    CHECK(sum_of<float>(s, {1})[0] == 0);
    double copied[3];
    s.copy_sample(0, 0, 3, 1, copied);
    CHECK(copied[0] == 0);
    CHECK(copied[2] == 4);
  }
}

TEST_CASE("embedding: factor 0 skips a sample whose numbers are not finite, and its norm says so") {
  for (const float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    const std::vector<std::int32_t> tokens = {0, 1, 1, 1, 1, 0};
    const std::vector<float> g = {1, 2, 3, bad, 5, 6};
    const embedding<float> s(tokens.data(), g.data(), 2, 3, 2, 1);
    const std::vector<double> squares = squared_norms_of(s);
    CHECK(squares[0] == Approx(26));
    CHECK_FALSE(std::isfinite(squares[1]));
    CHECK(sum_of<double>(s, {1, 0})[1] == Approx(5));
  }
}

TEST_CASE("embedding: a token outside of the vocabulary is a problem, and the sentence does not tell which") {
  for (const std::int32_t token : {-1, 3, 77}) {
    const std::vector<std::int32_t> tokens = {0, token};
    const std::vector<float> g = {1, 2};
    const embedding<float> s(tokens.data(), g.data(), 1, 2, 3, 1);
    CHECK(s.problem() == "embedding: a token is outside of the vocabulary [0, 3); mask it with padding_index or mend "
                         "the tokenizer");
  }
  CHECK_THAT((embedding<float>(nullptr, nullptr, 0, 1, isize{1} << 40, 1).problem()), contains_text("a vocabulary of"));
}
