// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// Small layers over positions and small tables of embeddings in one launch each: against one launch a layer, against
// the core, and what an optimizer launches.
#include "support/device_trainer.hpp"

#include "support/catch.hpp"

#include "dpopt/accumulation/integer_grid.hpp"
#include "dpopt/clipping/flat.hpp"
#include "dpopt/cuda/accumulators.hpp"
#include "dpopt/cuda/embedding_source.cuh"
#include "dpopt/cuda/linear_source.cuh"
#include "dpopt/dp_optimizer/dp_optimizer.hpp"
#include "dpopt/gradients/embedding.hpp"
#include "dpopt/gradients/half.hpp"
#include "dpopt/gradients/linear_sequence.hpp"
#include "support/simt/rows.hpp"
#include "support/toy_training.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <vector>

using namespace dpopt;
using namespace dpopt::test;
using testing::device_trainer;
using testing::recorded_call;
using testing::recording_api;

namespace {

using device = cuda::device_work<recording_api>;

/// A layer over positions, some of its rows off the alignment of vectors.
template <class U>
struct sequence {
  isize samples, positions, inputs, outputs;
  simt::random_rows<U> a, e;

  sequence(isize batch, isize each, isize ins, isize outs)
      : samples(batch), positions(each), inputs(ins), outputs(outs), a(batch * each, ins, 0, each % 2, 3),
        e(batch * each, outs, 0, each % 2, 4) {}
  [[nodiscard]] const U* first(const simt::random_rows<U>& of) const { return of.memory.data() + of.offset; }
  [[nodiscard]] linear_sequence<U> core() const { return {first(a), first(e), samples, positions, inputs, outputs}; }
  [[nodiscard]] cuda::linear_sequence<U> ours() const {
    return {first(a), first(e), samples, positions, inputs, outputs};
  }
  void spoil(isize i) { e.row(i * positions)[0] = U(std::numeric_limits<float>::quiet_NaN()); }
};

/// A table whose samples repeat tokens; token 1 is padding.
template <class U, class Token>
struct table {
  isize samples, positions, vocabulary, dimension;
  std::vector<Token> tokens;
  simt::random_rows<U> gradients;

  table(isize batch, isize each, isize rows, isize columns)
      : samples(batch), positions(each), vocabulary(rows), dimension(columns),
        gradients(batch * each, columns, 0, each % 2, 5) {
    for (isize at = 0; at < batch * each; ++at) tokens.push_back(static_cast<Token>((at * at + at / 3) % rows));
  }
  [[nodiscard]] const U* first() const { return gradients.memory.data() + gradients.offset; }
  [[nodiscard]] embedding<U, Token> core() const {
    return {tokens.data(), first(), samples, positions, vocabulary, dimension, 1};
  }
  [[nodiscard]] cuda::embedding<U, Token> ours() const {
    return {tokens.data(), first(), samples, positions, vocabulary, dimension, 1};
  }
  void spoil(isize i) {
    tokens[static_cast<std::size_t>(i * positions)] = 0;
    gradients.row(i * positions)[0] = U(std::numeric_limits<float>::quiet_NaN());
  }
};

/// Layer p's, so that those of another show.
std::vector<double> factors_of(std::size_t p, isize batch) {
  auto out = simt::random_factors(batch); // 0 for sample 1
  for (double& f : out) f /= static_cast<double>(1 + p);
  return out;
}
template <class V>
std::vector<V> room(isize n, V each) {
  return std::vector<V>(static_cast<std::size_t>(n), each);
}

/// Norms of two groups and the grid's units: the bits of one launch each, the latter the core's. Sums in Out: within
/// `allowed` of the core's, 0 for its bits.
template <class Out, class Layers>
void check_together(const Layers& layers, isize batch, double allowed) {
  using source = decltype(layers[0].ours());
  using view = decltype(layers[0].ours().view());
  device on{recording_api()};
  std::vector<double> norms = room(2 * batch, 0.25), alone = norms;
  cuda::many_parameters<view, double> norms_of(batch);
  cuda::many_parameters<view, Out> sums_of(batch);
  cuda::many_parameters<view, std::int64_t> units_of(batch);
  std::vector<std::vector<double>> factors;
  std::vector<std::vector<Out>> sums, core_sums;
  std::vector<std::vector<std::int64_t>> units, core_units;
  cuda::integer_grid grid(20, 1e6);
  grid.bind(64);
  workspace scratch;
  for (std::size_t p = 0; p < layers.size(); ++p) {
    const source ours = layers[p].ours();
    const auto core = layers[p].core();
    CHECK(ours.shares_launches());
    const isize to = 2 * p < layers.size() ? 0 : batch, size = ours.size();
    norms_of.add(ours.view(), norms.data() + to);
    ours.add_squared_norms(on, alone.data() + to);

    factors.push_back(factors_of(p, batch));
    sums.push_back(room(size + 1, Out(3))), core_sums.push_back(sums.back()); // one more, which must stay
    units.push_back(room<std::int64_t>(size + 1, 3)), core_units.push_back(units.back());
    core.add_weighted_sum({0, batch}, factors[p].data(), core_sums[p].data(), scratch);
    integer_grid core_grid(20, 1e6);
    core_grid.resize(size, 64);
    core_grid.add(0, core, {0, batch}, factors[p].data(), scratch);
    for (isize k = 0; k < size; ++k) core_units[p][static_cast<std::size_t>(k)] += core_grid.data()[k];
  }
  for (std::size_t p = 0; p < layers.size(); ++p) {
    sums_of.add(layers[p].ours().view(), sums[p].data(), factors[p].data());
    units_of.add(layers[p].ours().view(), units[p].data(), factors[p].data());
  }
  on.device().forget_calls();
  norms_of.add_squared_norms(on);
  sums_of.add_weighted_sums(on);
  grid.add_many(on, units_of);
  CHECK(std::ssize(on.device().calls()) == (batch > 0 ? 3 : 0));
  CHECK(simt::greatest_difference(norms, alone) == 0); // NaN where one launch each says NaN
  CHECK(units == core_units);
  for (std::size_t p = 0; p < layers.size(); ++p) {
    INFO("layer " << p);
    double worst = 0;
    for (std::size_t k = 0; k < sums[p].size(); ++k)
      worst = std::max(worst, std::abs(static_cast<double>(sums[p][k]) - static_cast<double>(core_sums[p][k])));
    CHECK(worst <= allowed);
  }
}

} // namespace

TEST_CASE("small layers over positions together: the norms of one launch each, the core's sums") {
  const auto edge_sequences = [](auto number, isize batch) { // blocks of 256 threads are slow on the executor
    std::vector<sequence<decltype(number)>> out;
    for (const isize positions : {0, 1, 17}) out.emplace_back(batch, positions, 5, 4);
    out.emplace_back(batch, 3, 33, 2), out.emplace_back(batch, 2, 3, 31), out.emplace_back(batch, 3, 0, 5);
    return out;
  };
  check_together<float>(edge_sequences(float{}, 0), 0, 0);
  auto layers = edge_sequences(float{}, 2);
  layers[2].spoil(1); // whose factor is 0
  check_together<float>(layers, 2, 1e-5);
  check_together<double>(edge_sequences(bfloat16{}, 1), 1, 1e-13);
}

TEST_CASE("small tables together: the norms of one launch each, the core's bits, repeats and padding included") {
  const auto edge_tables = [](auto number, auto token, isize batch) {
    std::vector<table<decltype(number), decltype(token)>> out;
    for (const isize positions : {0, 1, 2, 33}) out.emplace_back(batch, positions, 7, 5);
    for (const isize dimension : {1, 31, 33}) out.emplace_back(batch, 4, 3, dimension);
    out.emplace_back(batch, 4, 70, 1);
    return out;
  };
  for (const isize batch : {0, 3}) {
    auto tables = edge_tables(float{}, std::int32_t{}, batch);
    if (batch > 0) tables[3].spoil(1);
    check_together<float>(tables, batch, 0);
    check_together<double>(tables, batch, 0);
  }
  check_together<float>(edge_tables(double{}, std::int64_t{}, 2), 2, 0);
  check_together<float>(edge_tables(float16{}, std::int32_t{}, 2), 2, 0);
}

TEST_CASE("a token outside of a small table counts in its norm and is added nowhere") {
  table<float, std::int32_t> outside(1, 3, 4, 2);
  outside.tokens = {-1, 4, 1000000};
  const auto ours = outside.ours();
  std::vector<double> norm(1), factor(1, 1);
  std::vector<float> sum(8, 0.25F);
  device on{recording_api()};
  cuda::many_parameters<decltype(ours.view()), double> norms(1);
  norms.add(ours.view(), norm.data());
  norms.add_squared_norms(on);
  cuda::many_parameters<decltype(ours.view()), float> sums(1);
  sums.add(ours.view(), sum.data(), factor.data());
  sums.add_weighted_sums(on);
  CHECK(norm[0] > 0);
  CHECK(sum == std::vector<float>(8, 0.25F));
}

TEST_CASE("small layers and tables together: the same bits under every schedule") {
  std::vector<sequence<float>> layers;
  std::vector<table<float, std::int32_t>> tables;
  for (const isize k : {1, 3}) layers.emplace_back(2, k, 18, 2 * k), tables.emplace_back(2, 3 * k, 4, 3);
  simt::under_all_schedules([&] {
    check_together<float>(layers, 2, 1e-5);
    check_together<float>(tables, 2, 0);
  });
}

TEST_CASE("layers of many rows and tables of many tokens have launches of their own") {
  CHECK(cuda::linear_sequence<float>{nullptr, nullptr, 64, 64, 64, 64}.shares_launches());
  CHECK_FALSE(cuda::linear_sequence<float>{nullptr, nullptr, 64, 65, 64, 64}.shares_launches());
  CHECK_FALSE(cuda::linear_sequence<float>{nullptr, nullptr, 1, 1, 64, 65}.shares_launches());
  CHECK(cuda::embedding<float>(nullptr, nullptr, 64, 64, 64, 64).shares_launches());
  CHECK_FALSE(cuda::embedding<float>(nullptr, nullptr, 1, 65, 64, 64).shares_launches());
  CHECK_FALSE(cuda::embedding<float>(nullptr, nullptr, 4097, 1, 64, 64).shares_launches());
  CHECK_FALSE(cuda::embedding<float>(nullptr, nullptr, 1, 1, 64, 65).shares_launches());
}

TEST_CASE("37 small layers over positions and 4 small tables cost 7 launches a microbatch") {
  constexpr isize each = 37, few = 4, batch = 1; // more layers than a launch takes
  std::vector<sequence<float>> layers;
  std::vector<table<float, std::int32_t>> tables;
  std::vector<isize> sizes;
  for (isize p = 0; p < each; ++p) {
    layers.emplace_back(batch, 1 + p % 3, 3, 1 + p % 4);
    sizes.push_back(layers.back().core().size());
  }
  for (isize p = 0; p < few; ++p) {
    tables.emplace_back(batch, 1 + p % 4, 5, 1 + p % 3);
    sizes.push_back(tables.back().core().size());
  }
  const counter_gaussian noise{.noise_multiplier = 0.5, .seed = 9};
  const expected_batch scaling{.expected_batch_size = across_ranks{3.0}};
  const auto run = [&](auto& opt, auto hand_over) {
    opt.begin({.samples = batch});
    for (isize p = 0; p < each; ++p) hand_over(p, layers[static_cast<std::size_t>(p)]);
    for (isize p = 0; p < few; ++p) hand_over(each + p, tables[static_cast<std::size_t>(p)]);
    opt.step();
  };
  recording_api api;
  toy_model<float> model(sizes), expected(sizes);
  device_trainer ours(model.views(), dp_options{}, api, flat{2.0}, noise, scaling, sgd{.learning_rate = 0.5},
                      cuda::running_sum<float>{}, cuda::serial{});
  run(ours, [&](isize p, const auto& layer) { ours.gradient_ready(p, layer.ours()); });
  CHECK(api.count(recorded_call::kind::product) == 0);
  CHECK(api.count(recorded_call::kind::launch) - 2 == 7); // two release; three of norms, one of factors, three of sums
  dp_optimizer core(expected.views(), dp_options{}, flat{2.0}, noise, scaling, sgd{.learning_rate = 0.5},
                    running_sum<float>{});
  run(core, [&](isize p, const auto& layer) { core.gradient_ready(p, layer.core()); });
  CHECK(distance(model.all_values(), expected.all_values()) <= 1e-6);
}
