// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "dpopt/gradients/sequence_norm.hpp"

#include "dpopt/gradients/convolution_weight.hpp"
#include "dpopt/gradients/linear_sequence.hpp"
#include "dpopt/gradients/linear_weight.hpp"
#include "dpopt/gradients/tied_embedding.hpp"
#include "support/random_numbers.hpp"
#include "support/source_conformance.hpp"

#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

using namespace dpopt;
using namespace dpopt::test;

namespace {

/// Bytes of scratch memory that both questions need.
template <class S>
isize need_of(const S& s, double factor = 0.5) {
  workspace w;
  std::vector<double> squares(static_cast<std::size_t>(s.batch()), 0.0), factors(squares.size(), factor);
  std::vector<float> sum(static_cast<std::size_t>(s.size()));
  s.add_squared_norms({0, s.batch()}, squares.data(), w);
  s.add_weighted_sum({0, s.batch()}, factors.data(), sum.data(), w);
  return w.bytes();
}

/// The second of two rows becomes the opposite of the first.
void cancel(std::vector<float>& rows) {
  for (std::size_t k = 0; k < rows.size() / 2; ++k) rows[rows.size() / 2 + k] = -rows[k];
}
void repeat(std::vector<float>& rows) {
  for (std::size_t k = 0; k < rows.size() / 2; ++k) rows[rows.size() / 2 + k] = rows[k];
}

} // namespace

TEST_CASE("sequence norms: scratch memory does not tell whether positions cancel, or how many tokens are padding") {
  for (const isize outputs : {80, 300}) { // narrower and wider than the inputs
    REQUIRE(detail::gram_is_cheaper(2, 200, outputs));
    std::vector<float> a = random_numbers<float>(2 * 200, 1), e = random_numbers<float>(2 * outputs, 2);
    const linear_sequence<float> s{a.data(), e.data(), 1, 2, 200, outputs};
    const isize need = need_of(s);
    repeat(a), cancel(e);
    CHECK(need_of(s) == need);
  }
  {
    const convolution_geometry g{
        .input_channels = 64, .output_channels = 96, .input_size = {2, 1}, .kernel_size = {1, 1}};
    std::vector<float> a(2 * 64), e(2 * 96);
    const auto positions_of = [](std::vector<float>& to, float second) { // channels first
      const auto x = random_numbers<float>(static_cast<isize>(to.size()), 3);
      for (std::size_t k = 0; k < to.size(); k += 2) to[k] = x[k], to[k + 1] = second == 0 ? x[k + 1] : second * x[k];
    };
    positions_of(a, 0), positions_of(e, 0);
    const convolution_weight<float> s(a.data(), e.data(), 1, g);
    const isize need = need_of(s);
    positions_of(a, 1), positions_of(e, -1);
    CHECK(need_of(s) == need);
  }
  std::vector<std::int32_t> tokens(40, -1);
  const auto lookups = random_numbers<float>(40 * 64, 1), h = random_numbers<float>(4 * 64, 2),
             logits = random_numbers<float>(4 * 200, 3);
  const tied_embedding<float> s{tokens.data(), lookups.data(), h.data(), logits.data(), 1, 40, 4, 200, 64, -1};
  const isize need = need_of(s);
  for (std::size_t k = 0; k < tokens.size(); ++k) tokens[k] = static_cast<std::int32_t>(k);
  CHECK(need_of(s) == need);
}

TEST_CASE("sequence norms: scratch memory does not tell whether any sample was kept") {
  const auto a = random_numbers<float>(3 * 40, 1), e = random_numbers<float>(3 * 30, 2);
  const linear_weight<float> one{a.data(), e.data(), 3, 40, 30};
  CHECK(need_of(one, 0) == need_of(one));
  const linear_sequence<float> some{a.data(), e.data(), 1, 3, 40, 30};
  CHECK(need_of(some, 0) == need_of(some));
}

TEST_CASE("sequence norms: both ways agree, whichever factor is the wider, over whole and broken tiles") {
  struct shape {
    isize positions, inputs, outputs;
  };
  for (const auto& [positions, inputs, outputs] :
       {shape{3, 70, 200}, {3, 200, 70}, {2, 65, 64}, {5, 1, 300}, {5, 300, 1}, {40, 130, 130}}) {
    const auto a = random_numbers<double>(positions * inputs, 1), e = random_numbers<double>(positions * outputs, 2);
    const linear_sequence<double> s{a.data(), e.data(), 1, positions, inputs, outputs};
    workspace w;
    long double squares = 0;
    for (isize o = 0; o < outputs; ++o)
      for (isize k = 0; k < inputs; ++k) {
        long double g = 0;
        for (isize t = 0; t < positions; ++t)
          g += static_cast<long double>(e[static_cast<std::size_t>(t * outputs + o)]) *
               static_cast<long double>(a[static_cast<std::size_t>(t * inputs + k)]);
        squares += g * g;
      }
    for (const bool by_gram : {true, false}) {
      const double ours = s.squared_norm_of(0, by_gram, w);
      CHECK(ours >= squares);
      CHECK(ours <= squares * (1 + 1e-6L));
    }
  }
}
