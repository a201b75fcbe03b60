// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// Many parameters in one launch against one launch each, and against the core.
#include "support/recording_api.hpp"
#include "support/simt/rows.hpp"

#include "dpopt/accumulation/integer_grid.hpp"
#include "dpopt/cuda/many_parameters.cuh"
#include "dpopt/gradients/half.hpp"
#include "dpopt/gradients/linear_weight.hpp"
#include "support/catch.hpp"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

using namespace dpopt;
using testing::recording_api;

namespace {

using device = cuda::device_work<recording_api>;
template <class To>
using vectors = std::vector<std::vector<To>>;

/// Rows of every size at which kernels go wrong, on and off the alignment that vectors need, some padded.
template <class U>
std::vector<simt::random_rows<U>> edge_rows(isize batch) {
  std::vector<simt::random_rows<U>> out;
  for (const isize size : simt::edge_sizes)
    for (const isize offset : {0, 1})
      out.emplace_back(batch, size, offset == 0 ? (4 - size % 4) % 4 : 3, offset, static_cast<unsigned>(out.size()));
  out.emplace_back(batch, isize{1104}); // several chunks of a sum, also of 16-bit numbers
  return out;
}
template <class U>
std::vector<cuda::row_view<U>> views_of(const std::vector<simt::random_rows<U>>& rows) {
  std::vector<cuda::row_view<U>> out;
  for (const auto& r : rows) out.push_back(r.view());
  return out;
}

/// Two groups, the parameters of the first before those of the second.
template <class View>
std::vector<double> norms_together(const std::vector<View>& views, isize batch) {
  device on{recording_api()};
  std::vector<double> norms(static_cast<std::size_t>(2 * batch), 0.25);
  cuda::many_parameters<View, double> many(batch);
  for (std::size_t p = 0; p < views.size(); ++p) many.add(views[p], norms.data() + (2 * p < views.size() ? 0 : batch));
  many.add_squared_norms(on);
  CHECK(std::ssize(on.device().calls()) == (batch > 0 ? 1 : 0));
  return norms;
}
template <class View>
std::vector<double> norms_one_by_one(const std::vector<View>& views, isize batch) {
  std::vector<double> norms(static_cast<std::size_t>(2 * batch), 0.25);
  for (std::size_t p = 0; p < views.size(); ++p) {
    double* const to = norms.data() + (2 * p < views.size() ? 0 : batch);
    if constexpr (requires { views[p].stride; })
      simt::run<cuda::add_row_norms_by_warp<float>>(cuda::cover(batch * 32), views[p], to);
    else simt::run<cuda::add_linear_norms<float>>(cuda::linear_norms_shape(batch), views[p], to, nullptr);
  }
  return norms;
}

/// Factors of parameter p: groups of two, so that a row of the wrong group shows.
std::vector<double> factors_of(std::size_t p, isize batch) {
  auto out = simt::random_factors(batch);
  for (double& f : out) f /= static_cast<double>(1 + p / 2);
  return out;
}

template <class Out, class View, class Ask>
vectors<Out> sums_together(const std::vector<View>& views, isize batch, Ask&& ask) {
  device on{recording_api()};
  vectors<Out> sums;
  vectors<double> factors;
  cuda::many_parameters<View, Out> many(batch);
  for (std::size_t p = 0; p < views.size(); ++p) {
    sums.emplace_back(static_cast<std::size_t>(views[p].elements()) + 1, Out(3)); // one more, which must stay
    factors.push_back(factors_of(p, batch));
    many.add(views[p], sums[p].data(), factors[p].data());
  }
  ask(many, on);
  CHECK(std::ssize(on.device().calls()) == (batch > 0 ? 1 : 0));
  return sums;
}

} // namespace

TEST_CASE("norms of many parameters: the bits of one launch each, added in their order", "[cuda][many]") {
  for (const isize batch : {0, 1, 5, 33}) {
    const auto rows = edge_rows<float>(batch);
    CHECK(norms_together(views_of(rows), batch) == norms_one_by_one(views_of(rows), batch));
  }
  std::vector<simt::random_rows<float>> a, e;
  std::vector<cuda::outer_view<float>> layers;
  for (const isize size : {1, 31, 33, 64}) {
    a.emplace_back(6, size, 1, 1);
    e.emplace_back(6, isize{7});
    layers.push_back({a.back().view(), e.back().view()});
  }
  CHECK(norms_together(layers, 6) == norms_one_by_one(layers, 6));
}

TEST_CASE("norms of many parameters: a table that is full bounds each of them", "[cuda][many]") {
  constexpr isize most = cuda::many_parameters<cuda::row_view<float>, double>::capacity;
  CHECK(most >= 80);
  const simt::random_rows<float> rows(3, 64 * most);
  std::vector<double> norms(static_cast<std::size_t>(3 * most), 0);
  cuda::many_parameters<cuda::row_view<float>, double> many(3);
  for (isize p = 0; p < most; ++p) many.add({rows.memory.data() + 64 * p, 3, 64, rows.stride}, norms.data() + 3 * p);
  CHECK_THROWS_WITH(many.add(rows.view(), norms.data()), contains_text("launch what is in it first"));
  device on{recording_api()};
  many.add_squared_norms(on);
  for (isize p = 0; p < most; ++p)
    for (isize i = 0; i < 3; ++i) {
      long double exact = 0;
      for (isize k = 64 * p; k < 64 * (p + 1); ++k)
        exact += static_cast<long double>(rows.memory[static_cast<std::size_t>(i * rows.stride + k)]) *
                 rows.memory[static_cast<std::size_t>(i * rows.stride + k)];
      const double norm = norms[static_cast<std::size_t>(3 * p + i)];
      CHECK((norm >= exact && norm <= exact * (1 + 1e-12L)));
    }
}

TEST_CASE("sums of many parameters: the bits of the core's, each with its own group's factors", "[cuda][many]") {
  const auto check = [](auto number, auto sum, isize batch) {
    using U = decltype(number);
    using Out = decltype(sum);
    const auto rows = edge_rows<U>(batch);
    const auto sums =
        sums_together<Out>(views_of(rows), batch, [](const auto& many, device& on) { many.add_weighted_sums(on); });
    for (std::size_t p = 0; p < rows.size(); ++p) {
      std::vector<Out> expected(sums[p].size(), Out(3));
      workspace scratch;
      rows[p].on_cpu().add_weighted_sum({0, batch}, factors_of(p, batch).data(), expected.data(), scratch);
      INFO("size " << rows[p].size << " offset " << rows[p].offset);
      CHECK(sums[p] == expected);
    }
  };
  for (const isize batch : {0, 1, 33}) check(float{}, float{}, batch);
  check(double{}, float{}, 5);
  check(float{}, double{}, 5);
  check(bfloat16{}, float{}, 5);
  check(float16{}, double{}, 5);
  check(float{}, float{}, cuda::staged_factors + 3);
}

TEST_CASE("sums of many parameters: small linear layers as the core's, and never above their bound", "[cuda][many]") {
  constexpr isize batch = 7;
  std::vector<simt::random_rows<float>> a, e;
  std::vector<cuda::outer_view<float>> layers;
  for (const isize size : {1, 31, 33, 100}) {
    a.emplace_back(batch, size);
    e.emplace_back(batch, isize{5}, isize{0}, isize{0}, 2);
    a.back().row(1)[0] = std::numeric_limits<float>::quiet_NaN(); // its factor is 0
    layers.push_back({a.back().view(), e.back().view()});
  }
  layers.push_back({{nullptr, batch, 0, 0}, e[0].view()}); // no inputs
  const auto sums =
      sums_together<float>(layers, batch, [](const auto& many, device& on) { many.add_weighted_sums(on); });
  CHECK(sums.back() == std::vector<float>{3});
  for (std::size_t p = 0; p < a.size(); ++p) {
    std::vector<float> expected(sums[p].size(), 3);
    workspace scratch;
    linear_weight<float>{a[p].memory.data(), e[p].memory.data(), batch, a[p].size, 5}.add_weighted_sum(
        {0, batch}, factors_of(p, batch).data(), expected.data(), scratch);
    for (std::size_t k = 0; k < expected.size(); ++k) CHECK(std::abs(sums[p][k] - expected[k]) <= 4e-6F);
  }
  const std::vector<double> third{1.0 / 3};
  std::vector<float> out(static_cast<std::size_t>(a[2].size * 5), 0);
  cuda::many_parameters<cuda::outer_view<float>, float> one(1);
  one.add({{a[2].memory.data(), 1, a[2].size, a[2].size}, {e[2].memory.data(), 1, 5, 5}}, out.data(), third.data());
  device on{recording_api()};
  one.add_weighted_sums(on);
  for (std::size_t k = 0; k < out.size(); ++k) {
    const std::size_t o = k / static_cast<std::size_t>(a[2].size), c = k % static_cast<std::size_t>(a[2].size);
    CHECK(std::abs(static_cast<double>(out[k])) <=
          third[0] * std::abs(static_cast<double>(e[2].memory[o]) * static_cast<double>(a[2].memory[c])));
  }
}

TEST_CASE("grid sums of many parameters: the bits of integer_grid", "[cuda][many]") {
  for (const isize batch : {0, 3, 40}) {
    const auto rows = edge_rows<float>(batch);
    integer_grid grid(20, 1e6);
    grid.resize(1, 64);
    const cuda::grid_scale scale{1 / grid.unit(), std::ldexp(1.0, 20)};
    const auto sums = sums_together<std::int64_t>(views_of(rows), batch,
                                                  [&](const auto& many, device& on) { many.add_grid_sums(on, scale); });
    for (std::size_t p = 0; p < rows.size(); ++p) {
      grid.resize(rows[p].size, 64);
      workspace scratch;
      grid.add(0, rows[p].on_cpu(), {0, batch}, factors_of(p, batch).data(), scratch);
      std::vector<std::int64_t> expected(grid.data(), grid.data() + rows[p].size);
      for (auto& x : expected) x += 3;
      expected.push_back(3);
      INFO("size " << rows[p].size << " offset " << rows[p].offset);
      CHECK(sums[p] == expected);
    }
  }
}

TEST_CASE("many linear layers: every size on both sides, on and off the alignment, in every schedule", "[cuda][many]") {
  constexpr isize batch = 3; // two of which count
  std::vector<simt::random_rows<float>> a, e;
  std::vector<cuda::outer_view<float>> layers;
  const auto add_layer = [&](isize inputs, isize outputs) {
    const auto k = static_cast<unsigned>(a.size());
    a.emplace_back(batch, inputs, isize{1}, isize{k % 2}, k);
    e.emplace_back(batch, outputs, isize{0}, isize{k / 2 % 2}, k + 100);
  };
  for (const isize size : simt::edge_sizes) add_layer(size, 2), add_layer(1, size);
  add_layer(600, 2);
  for (std::size_t p = 0; p < a.size(); ++p) layers.push_back({a[p].view(), e[p].view()});
  integer_grid grid(20, 1e6);
  grid.resize(1, 64);
  const cuda::grid_scale scale{1 / grid.unit(), std::ldexp(1.0, 20)};
  const auto norms = norms_one_by_one(layers, batch);
  const auto sums_of = [&] {
    return sums_together<float>(layers, batch, [](const auto& many, device& on) { many.add_weighted_sums(on); });
  };
  const auto sums = sums_of();
  vectors<std::int64_t> units;
  for (std::size_t p = 0; p < a.size(); ++p) {
    std::vector<float> packed; // the core's rows are dense
    for (isize i = 0; i < batch; ++i) packed.insert(packed.end(), a[p].row(i), a[p].row(i) + a[p].size);
    const linear_weight<float> layer{packed.data(), e[p].memory.data() + e[p].offset, batch, a[p].size, e[p].size};
    workspace scratch;
    std::vector<float> expected(sums[p].size(), 3);
    layer.add_weighted_sum({0, batch}, factors_of(p, batch).data(), expected.data(), scratch);
    INFO("layer of " << a[p].size << " x " << e[p].size);
    for (std::size_t k = 0; k < expected.size(); ++k) REQUIRE(std::abs(sums[p][k] - expected[k]) <= 4e-6F);
    grid.resize(layer.size(), 64);
    grid.add(0, layer, {0, batch}, factors_of(p, batch).data(), scratch);
    units.emplace_back(grid.data(), grid.data() + layer.size());
    for (auto& x : units.back()) x += 3;
    units.back().push_back(3);
  }
  simt::under_all_schedules([&] {
    CHECK(norms_together(layers, batch) == norms);
    CHECK(sums_of() == sums);
    CHECK(sums_together<std::int64_t>(layers, batch,
                                      [&](const auto& many, device& on) { many.add_grid_sums(on, scale); }) == units);
  });
}

TEST_CASE("many parameters: the same bits under every schedule, and whatever blocks there are", "[cuda][many][tiny]") {
  const isize batch = 6;
  std::vector<simt::random_rows<float>> rows;
  for (const isize size : {3, 70, 33}) rows.emplace_back(batch, size, 0, 0, static_cast<unsigned>(size));
  cuda::parameter_table<cuda::row_view<float>, double> norms_of;
  cuda::parameter_table<cuda::row_view<float>, float> sums_of;
  cuda::parameter_table<cuda::row_view<float>, std::int64_t> grids_of;
  std::vector<double> norms(2 * batch);
  vectors<float> sums{std::vector<float>(3), std::vector<float>(70), std::vector<float>(33)};
  vectors<std::int64_t> grids{std::vector<std::int64_t>(3), std::vector<std::int64_t>(70),
                              std::vector<std::int64_t>(33)};
  const auto factors = simt::random_factors(batch);
  for (std::size_t p = 0; p < 3; ++p) {
    norms_of.add({rows[p].view(), norms.data() + (p < 2 ? 0 : batch), nullptr});
    sums_of.add({rows[p].view(), sums[p].data(), factors.data()});
    grids_of.add({rows[p].view(), grids[p].data(), factors.data()});
  }
  const auto ask = [&](unsigned blocks, unsigned threads) {
    std::fill(norms.begin(), norms.end(), 0);
    for (std::size_t p = 0; p < 3; ++p) std::fill(sums[p].begin(), sums[p].end(), 1.0F);
    for (std::size_t p = 0; p < 3; ++p) std::fill(grids[p].begin(), grids[p].end(), 1);
    simt::run<cuda::add_norms_of_many<cuda::row_view<float>>>({blocks, threads}, norms_of, batch);
    simt::run<cuda::add_sums_of_many<cuda::row_view<float>, float>>({blocks, 32}, sums_of, isize{2});
    simt::run<cuda::add_grid_sums_of_many<cuda::row_view<float>>>({blocks, 32}, grids_of, batch,
                                                                  cuda::grid_scale{1024, 1e9}, isize{2}, isize{5});
  };
  ask(6, 96);
  const auto first_norms = norms;
  const auto first_sums = sums;
  const auto first_grids = grids;
  for (const unsigned blocks : {1U, 4U})
    simt::under_all_schedules([&] {
      ask(blocks, blocks == 1 ? 32 : 64);
      CHECK(norms == first_norms);
      CHECK(sums == first_sums);
      CHECK(grids == first_grids);
    });
}
