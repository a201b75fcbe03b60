// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "support/simt/rows.hpp"

#include "dpopt/accumulation/integer_grid.hpp"
#include "dpopt/cuda/embedding.cuh"
#include "dpopt/gradients/embedding.hpp"
#include "support/catch.hpp"

#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

using namespace dpopt;

namespace {

constexpr isize padding = 2;

template <class U, class Token>
struct batch_of_tokens {
  isize samples, positions, vocabulary, dimension;
  std::vector<Token> tokens; // the first gradients.offset are nobody's
  simt::random_rows<U> gradients;

  /// @param offset how many elements tokens and gradients lie behind an aligned address.
  batch_of_tokens(isize b, isize t, isize v, isize d, isize offset = 0)
      : samples(b), positions(t), vocabulary(v), dimension(d), tokens(static_cast<std::size_t>(offset + b * t)),
        gradients(b * t, d, 0, offset) {
    std::mt19937 bits(5);
    for (Token& x : tokens) x = static_cast<Token>(bits() % static_cast<unsigned>(v));
  }
  [[nodiscard]] const Token* first_token() const { return tokens.data() + gradients.offset; }
  [[nodiscard]] const U* first_gradient() const { return gradients.memory.data() + gradients.offset; }
  [[nodiscard]] embedding<U, Token> on_cpu() const {
    return {first_token(), first_gradient(), samples, positions, vocabulary, dimension, padding};
  }
  [[nodiscard]] cuda::token_view<U, Token> view() const {
    return {first_token(), first_gradient(),      samples,  positions, vocabulary, dimension, padding, positions,
            isize{1},      positions * dimension, dimension};
  }
};

template <class U, class Token>
struct on_device {
  std::vector<std::int32_t> next, heads;
  cuda::token_view<U, Token> view;

  explicit on_device(const batch_of_tokens<U, Token>& b)
      : next(static_cast<std::size_t>(b.samples * b.positions)), heads(next.size()), view(b.view()) {
    simt::run<cuda::link_tokens<U, Token>>(cuda::link_tokens_shape(b.samples, b.positions), view, links());
  }
  [[nodiscard]] cuda::token_links links() { return {next.data(), heads.data()}; }
  [[nodiscard]] std::vector<double> norms() {
    std::vector<double> out(static_cast<std::size_t>(view.samples));
    simt::run<cuda::add_token_norms<U, Token>>(cuda::token_norms_shape(view.samples), view, links(), out.data());
    return out;
  }
  template <class Out>
  [[nodiscard]] std::vector<Out> sum(const std::vector<double>& factors, isize rows_each = 0) {
    std::vector<Out> out(static_cast<std::size_t>(view.vocabulary * view.dimension), Out(0.25));
    const isize rows = rows_each > 0 ? rows_each : cuda::token_sum_rows(view.vocabulary, view.dimension);
    simt::run<cuda::add_token_sum<U, Token, Out>>(cuda::token_sum_shape(view.samples, view.vocabulary, view.dimension),
                                                  view, links(), factors.data(), rows, out.data());
    return out;
  }
};

/// On top of 5 units; of the core's integer_grid with 20 bits.
const cuda::grid_scale scale{0x1p13, 0x1p20}; // 64 < 2^7

template <class U, class Token>
std::vector<std::int64_t> grid_sum(const batch_of_tokens<U, Token>& b, const std::vector<double>& factors) {
  on_device<U, Token> device(b);
  std::vector<std::int64_t> out(static_cast<std::size_t>(b.vocabulary * b.dimension), 5);
  simt::run<cuda::add_token_grid_sum<U, Token>>(cuda::token_grid_shape(b.samples, b.positions), device.view,
                                                device.links(), factors.data(), scale, out.data());
  return out;
}

template <class Out, class U, class Token>
void check(const batch_of_tokens<U, Token>& b) {
  workspace scratch;
  const auto factors = simt::random_factors(b.samples);
  std::vector<double> norms(static_cast<std::size_t>(b.samples));
  std::vector<Out> sum(static_cast<std::size_t>(b.vocabulary * b.dimension), Out(0.25));
  b.on_cpu().add_squared_norms({0, b.samples}, norms.data(), scratch);
  b.on_cpu().add_weighted_sum({0, b.samples}, factors.data(), sum.data(), scratch);
  on_device<U, Token> device(b);
  INFO("samples " << b.samples << " positions " << b.positions << " dimension " << b.dimension << " offset "
                  << b.gradients.offset);
  CHECK(simt::greatest_difference(device.norms(), norms) < 1e-10);
  CHECK(device.template sum<Out>(factors) == sum);
  integer_grid grid(20, 1e6);
  grid.resize(b.vocabulary * b.dimension, 64);
  CHECK(1 / grid.unit() == scale.per_unit);
  grid.add(0, b.on_cpu(), {0, b.samples}, factors.data(), scratch);
  std::vector<std::int64_t> units(grid.data(), grid.data() + b.vocabulary * b.dimension);
  for (auto& x : units) x += 5;
  CHECK(grid_sum(b, factors) == units);
}

} // namespace

TEST_CASE("cuda embedding: norms and bits of the CPU, repeated tokens and padding included", "[cuda][embedding]") {
  for (const isize positions : {1, 31, 32, 33}) check<float>(batch_of_tokens<float, std::int32_t>(3, positions, 9, 5));
  check<double>(batch_of_tokens<float, std::int64_t>(4, 20, 40, 33));
  check<double>(batch_of_tokens<double, std::int32_t>(2, 70, 50, 3));
  check<float>(batch_of_tokens<float, std::int32_t>(2, 6, 5, 257));
  check<float>(batch_of_tokens<float, std::int32_t>(0, 6, 5, 4));
  check<float>(batch_of_tokens<float, std::int32_t>(3, 0, 5, 4));
}

TEST_CASE("cuda embedding: around a warp, around a block and beyond, unaligned too", "[cuda][embedding]") {
  for (const isize positions : {255, 256, 257, 300})
    check<float>(batch_of_tokens<float, std::int32_t>(1, positions, 11, 2, positions % 2));
  for (const isize columns : {31, 32, 33, 255, 256, 257, 700})
    check<float>(batch_of_tokens<float, std::int32_t>(1, 3, 4, columns, 1));
  check<float>(batch_of_tokens<float, std::int32_t>(1, 3, 257, 2, 1));
  check<double>(batch_of_tokens<float, std::int64_t>(33, 1, 5, 1, 1));
  simt::under_all_schedules([] { check<float>(batch_of_tokens<float, std::int32_t>(2, 33, 9, 33, 1)); });
}

TEST_CASE("cuda embedding: the same bits under every schedule, however the table is shared out", "[cuda][embedding]") {
  const batch_of_tokens<float, std::int32_t> b(5, 12, 7, 40);
  const auto factors = simt::random_factors(5);
  on_device<float, std::int32_t> first(b);
  const auto norms = first.norms();
  const auto sum = first.sum<float>(factors);
  const auto units = grid_sum(b, factors);
  simt::under_all_schedules([&] {
    on_device<float, std::int32_t> again(b);
    CHECK(again.norms() == norms);
    CHECK(again.sum<float>(factors, 3) == sum);
    CHECK(grid_sum(b, factors) == units);
  });
}

TEST_CASE("cuda embedding: a sample of factor 0 is not read, NaN stays in its sample", "[cuda][embedding]") {
  batch_of_tokens<float, std::int32_t> b(3, 4, 6, 8);
  for (isize t = 4; t < 8; ++t)
    for (isize k = 0; k < 8; ++k) b.gradients.row(t)[k] = std::numeric_limits<float>::quiet_NaN();
  b.tokens[4] = 1;
  check<float>(b); // factor 1 is 0
  const auto norms = on_device<float, std::int32_t>(b).norms();
  CHECK(std::isfinite(norms[0]));
  CHECK(std::isnan(norms[1]));
  CHECK(std::isfinite(norms[2]));
}

TEST_CASE("cuda embedding: a token outside of the table writes nowhere", "[cuda][embedding][tiny]") {
  batch_of_tokens<float, std::int32_t> b(2, 3, 4, 2);
  b.tokens = {0, 4, 3, -1, 1000000, 3};
  on_device<float, std::int32_t> device(b);
  const auto norms = device.norms();
  CHECK(norms[1] > 0);
  const auto sum = device.sum<float>({1, 1}, 3);
  for (std::size_t v : {1u, 2u})
    for (std::size_t k = 0; k < 2; ++k) CHECK(sum[v * 2 + k] == 0.25f);
  CHECK(sum[0] != 0.25f);
  CHECK(sum[6] != 0.25f);
  const auto units = grid_sum(b, {1, 1});
  for (std::size_t k = 0; k < units.size(); ++k) CHECK((units[k] != 5) == (k < 2 || k >= 6));
}

TEST_CASE("cuda embedding: two blocks that add to one row of the grid", "[cuda][embedding][race]") {
  batch_of_tokens<float, std::int32_t> b(2, 1, 4, 32);
  b.tokens = {3, 3};
  on_device<float, std::int32_t> device(b);
  std::vector<std::int64_t> out(4 * 32, 5);
  simt::run<cuda::add_token_grid_sum<float, std::int32_t>>({2, 32}, device.view, device.links(),
                                                           std::vector<double>{1, 0.5}.data(), scale, out.data());
  CHECK(out == grid_sum(b, {1, 0.5}));
}

TEST_CASE("cuda embedding: one warp with more tokens than it makes ready at once", "[cuda][embedding][race]") {
  const batch_of_tokens<float, std::int32_t> b(8, 9, 6, 5);
  const auto factors = simt::random_factors(8);
  std::vector<float> sum(30, 0.25f), expected(30, 0.25f);
  workspace scratch;
  b.on_cpu().add_weighted_sum({0, 8}, factors.data(), expected.data(), scratch);
  std::vector<std::int32_t> next(72), heads(72);
  const cuda::token_links links{next.data(), heads.data()};
  simt::run<cuda::link_tokens<float, std::int32_t>>({1, 32}, b.view(), links);
  simt::run<cuda::add_token_sum<float, std::int32_t, float>>({1, 32}, b.view(), links, factors.data(), isize{6},
                                                             sum.data());
  CHECK(sum == expected);
}
