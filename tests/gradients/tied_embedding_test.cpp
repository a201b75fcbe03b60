// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/gradients/tied_embedding.hpp"

#include "support/random_numbers.hpp"
#include "support/source_conformance.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

using namespace dpopt;
using namespace dpopt::test;

namespace {

template <class U>
struct model {
  isize batch, positions, outputs, vocabulary, dimension;
  bool time_major = false;
  std::vector<U> lookups = random_numbers<U>(batch * positions * dimension, 1);
  std::vector<U> h = random_numbers<U>(batch * outputs * dimension, 2);
  std::vector<U> logits = random_numbers<U>(batch * outputs * vocabulary, 3);
  std::vector<std::int32_t> tokens = some_tokens();

  [[nodiscard]] std::vector<std::int32_t> some_tokens() const { // with repeats, and padding at the third position
    std::vector<std::int32_t> out(static_cast<std::size_t>(batch * positions));
    for (isize i = 0; i < batch; ++i)
      for (isize s = 0; s < positions; ++s)
        out[at(i, s, positions)] = s == 2 ? -1 : static_cast<std::int32_t>((i + s * s) % vocabulary);
    return out;
  }
  [[nodiscard]] std::size_t at(isize i, isize t, isize each) const {
    return static_cast<std::size_t>(time_major ? t * batch + i : i * each + t);
  }
  [[nodiscard]] tied_embedding<U> source() const {
    return {tokens.data(), lookups.data(), h.data(), logits.data(), batch, positions, outputs,
            vocabulary,    dimension,      -1,       time_major};
  }
  [[nodiscard]] written_out rows() const {
    const auto d = static_cast<std::size_t>(dimension), v = static_cast<std::size_t>(vocabulary);
    written_out out(static_cast<std::size_t>(batch), std::vector<long double>(v * d, 0));
    for (isize i = 0; i < batch; ++i) {
      auto& g = out[static_cast<std::size_t>(i)];
      for (isize t = 0; t < outputs; ++t)
        for (std::size_t r = 0; r < v; ++r)
          for (std::size_t k = 0; k < d; ++k)
            g[r * d + k] += static_cast<long double>(logits[at(i, t, outputs) * v + r]) *
                            static_cast<long double>(h[at(i, t, outputs) * d + k]);
      for (isize s = 0; s < positions; ++s)
        if (const auto token = tokens[at(i, s, positions)]; token >= 0)
          for (std::size_t k = 0; k < d; ++k)
            g[static_cast<std::size_t>(token) * d + k] +=
                static_cast<long double>(lookups[at(i, s, positions) * d + k]);
    }
    return out;
  }
};

} // namespace

TEST_CASE("tied_embedding: norms and sums are those of both uses together") {
  for (const bool time_major : {false, true})
    for (const isize outputs : {0, 1, 2, 9}) {
      const model<double> m{
          .batch = 4, .positions = 5, .outputs = outputs, .vocabulary = 11, .dimension = 6, .time_major = time_major};
      source_conforms(m.source(), m.rows(), 1e-9);
    }
}

TEST_CASE("tied_embedding: both ways to the norm agree, and padding is not read") {
  model<float> m{.batch = 3, .positions = 6, .outputs = 5, .vocabulary = 40, .dimension = 8};
  const written_out rows = m.rows();
  for (isize i = 0; i < 3; ++i)
    for (std::size_t k = 0; k < 8; ++k) m.lookups[m.at(i, 2, 6) * 8 + k] = std::numeric_limits<float>::quiet_NaN();
  workspace w;
  for (isize i = 0; i < 3; ++i) {
    const double exact = static_cast<double>(norm_of(rows[static_cast<std::size_t>(i)]));
    for (const bool by_gram : {true, false}) {
      const double n = std::sqrt(m.source().squared_norm_of(i, by_gram, w));
      CHECK(n >= exact);
      CHECK(n <= exact * (1 + 1e-5));
      std::vector<double> only(3, 0.0);
      only[static_cast<std::size_t>(i)] = 1 / n;
      const long double added = norm_of(sum_of<float>(m.source(), only));
      CHECK(added <= 1.0L);
      CHECK(added >= 0.9999L);
    }
  }
}

TEST_CASE("tied_embedding: lookups that cancel the logits leave a small norm, and no more than it is added") {
  // One position, whose logit gradient is one at its token: G is h + lookup there.
  for (const float left : {1e-3F, 0.0F}) {
    model<float> m{.batch = 1, .positions = 1, .outputs = 1, .vocabulary = 7, .dimension = 5};
    m.logits.assign(7, 0.0F);
    m.logits[static_cast<std::size_t>(m.tokens[0])] = 1;
    for (std::size_t k = 0; k < 5; ++k) m.lookups[k] = -m.h[k] * (1 - left);
    const double n = std::sqrt(squared_norms_of(m.source())[0]);
    const long double exact = norm_of(m.rows()[0]);
    CHECK(n >= exact);
    CHECK(n <= exact + 1e-5L);
    CHECK(norm_of(sum_of<float>(m.source(), {1})) <= static_cast<long double>(n));
  }
}

TEST_CASE("tied_embedding: factor 0 skips a sample that is not finite, and its norm says so") {
  for (const int where : {0, 1, 2}) {
    model<double> m{.batch = 2, .positions = 2, .outputs = 2, .vocabulary = 5, .dimension = 4};
    const written_out good = m.rows();
    (where == 0 ? m.lookups : where == 1 ? m.h : m.logits).back() = std::numeric_limits<double>::quiet_NaN();
    const std::vector<double> squares = squared_norms_of(m.source());
    CHECK(std::isfinite(squares[0]));
    CHECK_FALSE(std::isfinite(squares[1]));
    const std::vector<double> sum = sum_of<double>(m.source(), {1, 0});
    for (std::size_t k = 0; k < sum.size(); ++k) CHECK(sum[k] == Approx(static_cast<double>(good[0][k])).margin(1e-12));
  }
}

TEST_CASE("tied_embedding: rows with gaps, and tokens and activations of all samples, have the bits of dense data") {
  model<float> m{.batch = 3, .positions = 4, .outputs = 5, .vocabulary = 6, .dimension = 3};
  for (isize i = 1; i < 3; ++i) { // as the first sample's
    std::copy_n(m.tokens.begin(), 4, m.tokens.begin() + i * 4);
    std::copy_n(m.h.begin(), 15, m.h.begin() + i * 15);
  }
  const float nan = std::numeric_limits<float>::quiet_NaN();
  const auto apart = [nan](const std::vector<float>& from, isize width, isize stride) {
    std::vector<float> to(from.size() / static_cast<std::size_t>(width) * static_cast<std::size_t>(stride), nan);
    for (isize r = 0; r < std::ssize(from) / width; ++r)
      std::copy_n(from.begin() + r * width, width, to.begin() + r * stride);
    return to;
  };
  const std::vector<float> lookups = apart(m.lookups, 3, 5), h = apart(m.h, 3, 4), logits = apart(m.logits, 6, 7);
  tied_embedding<float> s = m.source();
  s.lookup_gradients = lookups.data(), s.lookup_sample_stride = 4 * 5, s.lookup_position_stride = 5;
  s.activations = h.data(), s.activation_sample_stride = 0, s.activation_position_stride = 4;
  s.logit_gradients = logits.data(), s.logit_sample_stride = 5 * 7, s.logit_position_stride = 7;
  s.token_sample_stride = 0;
  CHECK(s.problem().empty());
  CHECK(squared_norms_of(s) == squared_norms_of(m.source()));
  CHECK(sum_of<float>(s, {1, 0, -0.5}) == sum_of<float>(m.source(), {1, 0, -0.5}));
  std::vector<double> part(17), expected(17);
  s.copy_sample(1, 1, 17, 1, part.data());
  m.source().copy_sample(1, 1, 17, 1, expected.data());
  CHECK(part == expected);
  const auto says = [&s](isize tied_embedding<float>::*stride, isize value) {
    tied_embedding<float> other = s;
    other.*stride = value;
    return other.problem();
  };
  CHECK_THAT(says(&tied_embedding<float>::token_sample_stride, 1),
             contains_text("the token strides let samples share"));
  CHECK_THAT(says(&tied_embedding<float>::lookup_sample_stride, 0), contains_text("the lookup strides let"));
  CHECK_THAT(says(&tied_embedding<float>::activation_sample_stride, 8), contains_text("the activation strides let"));
  CHECK_THAT(says(&tied_embedding<float>::logit_sample_stride, 0), contains_text("the logit strides let"));
}

TEST_CASE(
    "tied_embedding: no samples are valid, and a token outside of the vocabulary is a problem that names no token") {
  CHECK(squared_norms_of(tied_embedding<float>{}).empty());
  model<float> m{.batch = 1, .positions = 2, .outputs = 1, .vocabulary = 5, .dimension = 4};
  CHECK(m.source().problem().empty());
  m.tokens[1] = 5;
  CHECK(m.source().problem() == "tied_embedding: a token is outside of the vocabulary [0, 5); mask it with "
                                "padding_index or mend the tokenizer");
}
