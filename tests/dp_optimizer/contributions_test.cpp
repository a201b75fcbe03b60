// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// From per-sample gradients to the local sum, against the definition.
#include "dpopt/dp_optimizer/contributions.hpp"

#include "dpopt/accumulation/running_sum.hpp"
#include "dpopt/clipping/flat.hpp"
#include "dpopt/clipping/per_layer.hpp"
#include "dpopt/gradients/linear_weight.hpp"
#include "support/catch.hpp"
#include "support/probes.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <utility>
#include <vector>

using namespace dpopt;
using namespace dpopt::test;

namespace {

constexpr double nan_value = std::numeric_limits<double>::quiet_NaN();
constexpr double infinite = std::numeric_limits<double>::infinity();
const std::vector<parameter_info> parameters = {{"weight", 4}, {"bias", 2}, {"scale", 1}};

template <Clipper C>
struct summing {
  contributions<C, running_sum<double>> sums;
  std::vector<isize> done; // parameters in the order in which they were in the sum

  explicit summing(C clipper) : sums(std::move(clipper), {}) { sums.bind(parameters, {0, 4, 6}); }
  void add(const small_batch& b, microbatch m = {}) {
    m.samples = b.samples;
    sums.begin(m);
    for (isize p = 0; p < 3; ++p) add(p, b.source(p));
  }
  template <class S>
  void add(isize p, const S& source) {
    sums.add(p, source, [this](isize q) { done.push_back(q); });
  }
  void add_absent(isize p) {
    sums.add_absent(p, [this](isize q) { done.push_back(q); });
  }
  void flush() {
    sums.flush([this](isize q) { done.push_back(q); });
  }
  [[nodiscard]] std::vector<double> result() { return {sums.sum().data(), sums.sum().data() + 7}; }
};

const std::array<double, 3> bounds{0.9, 0.4, 0.3};
per_layer by_layer() { return {{0.9, 0.4, 0.3}}; }

} // namespace

TEST_CASE("contributions: per layer each sample's gradient is scaled to that layer's bound") {
  const small_batch batch(9);
  summing s(by_layer());
  s.add(batch);
  CHECK(close(s.result(), batch.clipped_per_layer(bounds)));
  CHECK(s.done == std::vector<isize>{0, 1, 2}); // each as soon as it came
}

TEST_CASE("contributions: flat, one factor a sample serves all layers, once the last norm is known") {
  const small_batch batch(9);
  summing s(flat{1.1});
  s.sums.begin({.samples = 9});
  s.add(1, batch.source(1));
  s.add(2, batch.source(2));
  CHECK(s.done.empty());
  s.add(0, batch.source(0));
  CHECK(s.done == std::vector<isize>{2, 1, 0}); // in one order on every rank
  CHECK(close(s.result(), batch.clipped_flat(1.1)));
}

TEST_CASE("contributions: keeping the views and working them off later gives the same bits") {
  const small_batch batch(9);
  summing now(by_layer());
  now.add(batch);
  summing later(by_layer());
  later.sums.begin({.samples = 9});
  for (isize p = 0; p < 3; ++p) later.sums.defer(p, batch.source(p));
  CHECK(later.done.empty());
  later.flush();
  CHECK(later.done == std::vector<isize>{2, 1, 0});
  CHECK(later.result() == now.result());

  summing flat_now(flat{1.1});
  flat_now.add(batch);
  summing flat_later(flat{1.1});
  flat_later.sums.begin({.samples = 9});
  for (isize p = 0; p < 3; ++p) flat_later.sums.defer(p, batch.source(p));
  flat_later.flush();
  CHECK(close(flat_later.result(), flat_now.result()));
}

TEST_CASE("contributions: microbatches add up, and clipping comes before summing") {
  const small_batch first(4, 1);
  const small_batch second(5, 2);
  summing s(by_layer());
  s.add(first);
  s.add(second);
  CHECK(close(s.result(), plus(first.clipped_per_layer(bounds), second.clipped_per_layer(bounds))));
  s.sums.clear_sum();
  CHECK(s.result() == std::vector<double>(7, 0.0));
}

TEST_CASE("contributions: a long gradient contributes exactly its bound and a short one itself") {
  const std::vector<double> rows = {3e6, 4e6, 0.003, 0.004};
  contributions<flat, running_sum<double>> s(flat{2}, {});
  const std::vector<parameter_info> only = {{"only", 2}};
  s.bind(only, {0});
  s.begin({.samples = 2});
  s.add(0, materialized<double>(rows.data(), 2, 2), [](isize) {});
  CHECK(s.sum().data()[0] == Approx(1.2 + 0.003).epsilon(1e-10));
  CHECK(s.sum().data()[1] == Approx(1.6 + 0.004).epsilon(1e-10));
  CHECK(s.counts().samples == 2);
  CHECK(s.counts().clipped == 1);
}

TEST_CASE("contributions: weights and the gradient's scale apply before clipping") {
  const small_batch batch(3);
  for (const double w : {2.0, 0.01, -1.0}) {
    summing scaled(by_layer());
    scaled.add(batch, {.gradient_scale = w});
    CHECK(close(scaled.result(), batch.clipped_per_layer(bounds, w)));
    const std::vector<double> weights(3, w);
    summing weighted(by_layer());
    weighted.add(batch, {.weights = weights.data()});
    CHECK(weighted.result() == scaled.result());
  }
  const std::vector<double> halves(3, 0.5); // both together: 4 x 0.5
  summing both(by_layer());
  both.add(batch, {.gradient_scale = 4, .weights = halves.data()});
  CHECK(close(both.result(), batch.clipped_per_layer(bounds, 2)));
}

TEMPLATE_TEST_CASE("contributions: weight 0 drops a sample everywhere, whatever its numbers are", "", per_layer, flat) {
  TestType clipper;
  clipper.max_grad_norm = 0.7;
  small_batch batch(3);
  const std::vector<double> mask = {1, 0, 1};
  summing s(clipper);
  SECTION("finite ones") {}
  SECTION("NaN") { batch.rows[1][2] = nan_value; }
  SECTION("infinity") { batch.rows[0][4] = infinite; }
  s.add(batch, {.weights = mask.data()});
  small_batch without(2);
  for (std::size_t p = 0; p < 3; ++p) {
    const auto n = static_cast<std::size_t>(small_model::sizes[p]);
    for (std::size_t k = 0; k < n; ++k) {
      without.rows[p][k] = batch.rows[p][k];
      without.rows[p][n + k] = batch.rows[p][2 * n + k];
    }
  }
  summing expected(clipper);
  expected.add(without);
  CHECK(close(s.result(), expected.result()));
  CHECK(s.sums.counts().non_finite == 0); // a mask is no accident
}

TEST_CASE(
    "contributions: a number that is not finite drops the sample from its layer, or from all with flat clipping") {
  for (const double bad : {nan_value, infinite, -infinite}) {
    small_batch batch(4);
    batch.rows[1][2 * 1 + 0] = bad; // bias of sample 1
    small_batch zeroed = batch;
    zeroed.rows[1][2] = zeroed.rows[1][3] = 0;
    summing layered(by_layer());
    layered.add(batch);
    CHECK(close(layered.result(), zeroed.clipped_per_layer(bounds)));
    CHECK(layered.sums.counts().non_finite == 1);

    for (std::size_t k = 4; k < 8; ++k) zeroed.rows[0][k] = 0;
    zeroed.rows[2][1] = 0;
    summing together(flat{1.1});
    together.add(batch);
    CHECK(close(together.result(), zeroed.clipped_flat(1.1)));
    CHECK(together.sums.counts().non_finite == 1);
  }
}

TEST_CASE("contributions: weights that are not finite drop their sample") {
  const small_batch batch(2);
  for (const double bad : {nan_value, infinite}) {
    const std::vector<double> weights = {bad, 1};
    summing s(by_layer());
    s.add(batch, {.weights = weights.data()});
    small_batch second = batch;
    for (std::size_t p = 0; p < 3; ++p)
      for (std::size_t k = 0; k < second.rows[p].size() / 2; ++k) second.rows[p][k] = 0;
    CHECK(close(s.result(), second.clipped_per_layer(bounds)));
  }
}

TEST_CASE("contributions: an absent parameter counts as zero") {
  small_batch batch(4);
  summing layered(by_layer());
  layered.sums.begin({.samples = 4});
  layered.add(0, batch.source(0));
  layered.add_absent(1);
  layered.add(2, batch.source(2));
  CHECK(layered.done == std::vector<isize>{0, 1, 2});

  summing together(flat{1.1});
  together.sums.begin({.samples = 4});
  together.add(0, batch.source(0));
  together.add(2, batch.source(2));
  together.add_absent(1);
  CHECK(together.done == std::vector<isize>{2, 1, 0});

  batch.rows[1].assign(8, 0.0);
  CHECK(close(layered.result(), batch.clipped_per_layer(bounds)));
  CHECK(close(together.result(), batch.clipped_flat(1.1)));
}

TEST_CASE("contributions: views that an empty microbatch left behind are never looked at again") {
  small_batch nothing(0);
  const small_batch batch(4);
  summing s(flat{1.1});
  s.sums.begin({.samples = 0, .last = false});
  s.add(1, nothing.source(1)); // the group stays incomplete: an empty microbatch needs no gradients
  s.sums.begin({.samples = 4});
  s.add_absent(1);
  s.add(0, batch.source(0));
  s.add(2, batch.source(2));
  small_batch without_bias = batch;
  without_bias.rows[1].assign(8, 0.0);
  CHECK(close(s.result(), without_bias.clipped_flat(1.1)));
}

TEST_CASE("contributions: a batch without samples adds nothing and completes every parameter") {
  const small_batch nothing(0);
  summing s(by_layer());
  s.add(nothing);
  CHECK(s.done.size() == 3);
  summing f(flat{1.1});
  f.sums.begin({.samples = 0});
  f.flush();
  CHECK(f.done.size() == 3);
  CHECK(s.result() == std::vector<double>(7, 0.0));
  CHECK(f.result() == std::vector<double>(7, 0.0));
  CHECK(s.sums.counts().samples == 0);
}

TEST_CASE("contributions: forgetting drops views and counts and leaves the sum to its owner") {
  const small_batch batch(4);
  summing s(flat{1.1});
  s.add(batch);
  const std::vector<double> before = s.result();
  s.sums.forget();
  CHECK(s.sums.counts().samples == 0);
  CHECK(s.sums.counts().clipped == 0);
  CHECK(s.result() == before);
}

TEST_CASE("contributions: more samples than a block holds are clipped block by block") {
  const isize rows = 3000; // 300000 numbers: several blocks of the cache-sized kind
  const std::vector<double> numbers = random_numbers<double>(rows * 100, 3);
  contributions<flat, running_sum<double>> s(flat{1.0}, {});
  const std::vector<parameter_info> only = {{"only", 100}};
  s.bind(only, {0});
  const materialized<double> source(numbers.data(), rows, 100);
  REQUIRE(source.block() < rows / 2);
  s.begin({.samples = rows});
  s.add(0, source, [](isize) {});
  std::vector<double> expected(100, 0.0);
  for (isize i = 0; i < rows; ++i) {
    double squares = 0;
    for (isize k = 0; k < 100; ++k) squares += std::pow(numbers[static_cast<std::size_t>(i * 100 + k)], 2);
    const double factor = std::min(1.0, 1.0 / (std::sqrt(squares) + 1e-6));
    for (isize k = 0; k < 100; ++k)
      expected[static_cast<std::size_t>(k)] += factor * numbers[static_cast<std::size_t>(i * 100 + k)];
  }
  CHECK(close({s.sum().data(), s.sum().data() + 100}, expected));
}

namespace {

/// Norm of what one sample of one parameter adds at bound 2.
template <class S>
long double contributed(const S& source, double gradient_scale) {
  contributions<flat, running_sum<double>> s(flat{2}, {});
  const std::vector<parameter_info> only = {{"only", source.size()}};
  s.bind(only, {0});
  s.begin({.samples = 1, .gradient_scale = gradient_scale});
  s.add(0, source, [](isize) {});
  long double squares = 0;
  for (isize k = 0; k < source.size(); ++k) squares += std::pow(static_cast<long double>(s.sum().data()[k]), 2);
  return std::sqrt(squares);
}

} // namespace

TEST_CASE("contributions: gradients whose squares vanish in double are bounded under any gradient scale") {
  for (int exponent = -322; exponent <= -140; exponent += 2) {
    const double size = std::pow(10.0, exponent);
    const double scale = 1 / size < 1e300 ? 1e8 / size : 1e307;
    INFO(size << " scaled by " << scale);
    const std::vector<double> row = {size, -size, 0, 3 * size, size, size, 2 * size, size, size};
    const long double written_out = contributed(materialized<double>(row.data(), 1, 9), scale);
    CHECK(written_out <= 2);
    const std::vector<double> a = {std::sqrt(size), 0, 2 * std::sqrt(size)};
    const std::vector<double> e = {std::sqrt(size), -std::sqrt(size)};
    const long double factored = contributed(linear_weight<double>{a.data(), e.data(), 1, 3, 2}, scale);
    CHECK(factored <= 2);
    if (exponent > -150) CHECK(std::min(written_out, factored) > 1.999L); // no shorter than it must be
  }
  const std::vector<double> zeros(9, 0.0);
  CHECK(squared_norm(zeros.data(), 9) == 0);
  CHECK(contributed(materialized<double>(zeros.data(), 1, 9), 1e300) == 0);
}

TEST_CASE("contributions: a norm over many parameters is no less for the rounding of their sum") {
  // Each small square is just below half an ulp of the large one: added one by one, all of them are lost.
  const isize count = 3000;
  const double large = 0x1p40;
  const double small = large * std::sqrt(0.49 * std::numeric_limits<double>::epsilon());
  std::vector<parameter_info> many(static_cast<std::size_t>(count), {"one", 1});
  std::vector<isize> offsets(static_cast<std::size_t>(count));
  for (isize p = 0; p < count; ++p) offsets[static_cast<std::size_t>(p)] = p;
  contributions<flat, running_sum<double>> s(flat{1}, {});
  s.bind(many, offsets);
  s.begin({.samples = 1});
  for (isize p = 0; p < count; ++p) s.add(p, materialized<double>(p == 0 ? &large : &small, 1, 1), [](isize) {});
  long double squares = 0;
  for (isize p = 0; p < count; ++p) squares += std::pow(static_cast<long double>(s.sum().data()[p]), 2);
  CHECK(std::sqrt(squares) <= 1);
  CHECK(std::sqrt(squares) > 1 - 1e-11L);
}
