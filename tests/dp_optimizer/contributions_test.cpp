// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// From per-sample gradients to the local sum, against the definition.
#include "dpopt/dp_optimizer/contributions.hpp"

#include "dpopt/accumulation/running_sum.hpp"
#include "dpopt/clipping/automatic.hpp"
#include "dpopt/clipping/drop_above.hpp"
#include "dpopt/clipping/flat.hpp"
#include "dpopt/clipping/per_group.hpp"
#include "dpopt/clipping/per_layer.hpp"
#include "dpopt/clipping/psac.hpp"
#include "dpopt/clipping/unit_norm.hpp"
#include "dpopt/gradients/bias.hpp"
#include "dpopt/gradients/convolution_weight.hpp"
#include "dpopt/gradients/embedding.hpp"
#include "dpopt/gradients/linear_sequence.hpp"
#include "dpopt/gradients/linear_weight.hpp"
#include "dpopt/gradients/normalization_weight.hpp"
#include "dpopt/gradients/tied_embedding.hpp"
#include "support/catch.hpp"
#include "support/clipper_promises.hpp"
#include "support/convolution_products.hpp"
#include "support/probes.hpp"
#include "support/random_numbers.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <numeric>
#include <string>
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

// ---- one weight at several positions, by backward passes written out, against finite differences of the loss -------

namespace {

using parameter_lists = std::vector<std::vector<double>*>;

/// [sample][parameter]: central differences of loss(sample).
template <class Loss>
std::vector<std::vector<std::vector<double>>> differences(const parameter_lists& all, isize samples, const Loss& loss) {
  std::vector<std::vector<std::vector<double>>> out(static_cast<std::size_t>(samples));
  for (isize i = 0; i < samples; ++i)
    for (std::vector<double>* parameter : all) {
      auto& g = out[static_cast<std::size_t>(i)].emplace_back();
      for (double& w : *parameter) {
        const double at = w, h = 1e-5;
        w = at + h;
        const double above = loss(i);
        w = at - h;
        const double below = loss(i);
        w = at;
        g.push_back((above - below) / (2 * h));
      }
    }
  return out;
}

template <class... Sources>
std::vector<double> sum_of_sources(any_clipper clipper, isize samples, const Sources&... sources) {
  contributions<any_clipper, running_sum<double>> s(std::move(clipper), {});
  std::vector<parameter_info> named;
  std::vector<isize> offsets;
  isize size = 0, p = 0;
  std::vector<std::string> names; // parameter_info views them
  names.reserve(sizeof...(sources));
  ((named.push_back({names.emplace_back("weight " + std::to_string(p++)), sources.size()}), offsets.push_back(size),
    size += sources.size()),
   ...);
  s.bind(named, offsets);
  s.begin({.samples = samples});
  p = 0;
  (s.add(p++, sources, [](isize) {}), ...);
  return {s.sum().data(), s.sum().data() + size};
}

/// A clipper of parameters "weight 0", "weight 1", ... beside its definition.
struct defined_clipper {
  any_clipper clipper;
  std::vector<std::size_t> group; ///< of each parameter
  std::function<double(double norm)> factor;
};

/// With one bound for every group.
std::vector<defined_clipper> defined_clippers(std::size_t count, double bound) {
  const std::vector<std::size_t> together(count, 0);
  std::vector<std::size_t> apart(count), first_and_rest(count, 1);
  std::iota(apart.begin(), apart.end(), std::size_t{0});
  first_and_rest[0] = 0;
  const per_layer layers{std::vector<double>(count, bound)};
  const per_group groups([](const parameter_info& p) { return p.name == "weight 0" ? "first" : "rest"; }, bound);
  const auto usual = [=](double n) { return std::min(1.0, bound / (n + 1e-6)); };
  const double joint = bound * std::sqrt(static_cast<double>(count));
  return {
      {any_clipper(flat{bound}), together, usual},
      {any_clipper(layers), apart, usual},
      {any_clipper(groups), first_and_rest, usual},
      {any_clipper(automatic{layers, 0.01}), apart, [=](double n) { return bound / (n + 0.01); }},
      {any_clipper(psac{groups, 0.1}), first_and_rest, [=](double n) { return bound / (n + 0.1 / (n + 0.1)); }},
      {any_clipper(drop_above{layers, 1.3}), apart, [=](double n) { return n <= 1.3 * bound ? 1 / 1.3 : 0; }},
      {any_clipper(unit_norm{groups}), first_and_rest,
       [=](double n) { return usual(n) / (count > 1 ? std::sqrt(2.0) * bound : bound); }},
      {any_clipper(unit_norm{layers}), apart, [=](double n) { return usual(n) / joint; }},
  };
}

/// With each clipper, the sources give what clipped finite differences add up to.
template <class Loss, class... Sources>
void agrees_with_differences(const parameter_lists& all, isize samples, const Loss& loss, const Sources&... sources) {
  const auto rows = differences(all, samples, loss);
  const auto norm = [](const std::vector<double>& g) {
    return std::sqrt(std::inner_product(g.begin(), g.end(), g.begin(), 0.0));
  };
  const double bound = 0.7 * norm(rows[0][0]); // some samples are clipped, and some are not
  for (const defined_clipper& how : defined_clippers(all.size(), bound)) {
    INFO(how.clipper.describe());
    std::vector<std::vector<double>> sums;
    for (const auto* parameter : all) sums.emplace_back(parameter->size());
    for (const auto& sample : rows) {
      std::vector<double> joint(all.size()); // of each group
      for (std::size_t p = 0; p < all.size(); ++p)
        joint[how.group[p]] = std::hypot(joint[how.group[p]], norm(sample[p]));
      for (std::size_t p = 0; p < all.size(); ++p)
        for (std::size_t k = 0; k < sums[p].size(); ++k) sums[p][k] += how.factor(joint[how.group[p]]) * sample[p][k];
    }
    std::vector<double> expected;
    for (const auto& sum : sums) expected.insert(expected.end(), sum.begin(), sum.end());
    const std::vector<double> ours = sum_of_sources(how.clipper, samples, sources...);
    REQUIRE(ours.size() == expected.size());
    for (std::size_t k = 0; k < ours.size(); ++k) CHECK(ours[k] == Approx(expected[k]).epsilon(1e-6).margin(1e-8));
  }
}

std::size_t at(isize row, isize width, isize k) { return static_cast<std::size_t>(row * width + k); }

} // namespace

TEST_CASE("contributions: both weights of a LoRA pair are clipped like any two layers, over positions as well") {
  // y = W x + 0.5 B (A x), loss = sum over positions and outputs of sin(y); W is frozen.
  constexpr isize samples = 3, inputs = 5, rank = 2, outputs = 4;
  for (const isize positions : {1, 3}) {
    std::vector<double> a = random_numbers<double>(rank * inputs, 1), b = random_numbers<double>(outputs * rank, 2);
    const auto w = random_numbers<double>(outputs * inputs, 3),
               x = random_numbers<double>(samples * positions * inputs, 4);
    const isize rows = samples * positions;
    std::vector<double> low(static_cast<std::size_t>(rows * rank)), of_b(static_cast<std::size_t>(rows * outputs)),
        of_a(low.size());
    const auto output = [&](isize row, isize o) {
      double y = 0;
      for (isize k = 0; k < inputs; ++k) y += w[at(o, inputs, k)] * x[at(row, inputs, k)];
      for (isize r = 0; r < rank; ++r)
        for (isize k = 0; k < inputs; ++k) y += 0.5 * b[at(o, rank, r)] * a[at(r, inputs, k)] * x[at(row, inputs, k)];
      return y;
    };
    for (isize row = 0; row < rows; ++row) {
      for (isize r = 0; r < rank; ++r)
        for (isize k = 0; k < inputs; ++k) low[at(row, rank, r)] += a[at(r, inputs, k)] * x[at(row, inputs, k)];
      for (isize o = 0; o < outputs; ++o) of_b[at(row, outputs, o)] = 0.5 * std::cos(output(row, o));
      for (isize r = 0; r < rank; ++r)
        for (isize o = 0; o < outputs; ++o) of_a[at(row, rank, r)] += b[at(o, rank, r)] * of_b[at(row, outputs, o)];
    }
    const auto loss = [&](isize i) {
      double sum = 0;
      for (isize t = 0; t < positions; ++t)
        for (isize o = 0; o < outputs; ++o) sum += std::sin(output(i * positions + t, o));
      return sum;
    };
    agrees_with_differences({&a, &b}, samples, loss,
                            linear_sequence<double>{x.data(), of_a.data(), samples, positions, inputs, rank},
                            linear_sequence<double>{low.data(), of_b.data(), samples, positions, rank, outputs});
  }
}

TEST_CASE("contributions: a recurrent layer's weights and bias are clipped by what they add over all time steps") {
  // h_t = tanh(R h_{t-1} + V x_t + c), loss = sum over t of h_t . h_t / 2, time-major as recurrent layers like it.
  constexpr isize samples = 3, inputs = 2, hidden = 3;
  for (const isize steps : {1, 5}) {
    std::vector<double> r = random_numbers<double>(hidden * hidden, 1), v = random_numbers<double>(hidden * inputs, 2),
                        c = random_numbers<double>(hidden, 3);
    const auto x = random_numbers<double>(steps * samples * inputs, 4);
    std::vector<double> h = random_numbers<double>((steps + 1) * samples * hidden, 5); // h_0 first
    std::vector<double> e(static_cast<std::size_t>(steps * samples * hidden));
    const auto forward = [&](isize i) {
      double loss = 0;
      for (isize t = 0; t < steps; ++t)
        for (isize o = 0; o < hidden; ++o) {
          double sum = c[static_cast<std::size_t>(o)];
          for (isize k = 0; k < hidden; ++k) sum += r[at(o, hidden, k)] * h[at(t * samples + i, hidden, k)];
          for (isize k = 0; k < inputs; ++k) sum += v[at(o, inputs, k)] * x[at(t * samples + i, inputs, k)];
          const double out = h[at((t + 1) * samples + i, hidden, o)] = std::tanh(sum);
          loss += out * out / 2;
        }
      return loss;
    };
    for (isize i = 0; i < samples; ++i) {
      forward(i);
      for (isize t = steps - 1; t >= 0; --t)
        for (isize k = 0; k < hidden; ++k) {
          const double out = h[at((t + 1) * samples + i, hidden, k)];
          double back = out;
          for (isize o = 0; t + 1 < steps && o < hidden; ++o)
            back += r[at(o, hidden, k)] * e[at((t + 1) * samples + i, hidden, o)];
          e[at(t * samples + i, hidden, k)] = back * (1 - out * out);
        }
    }
    const std::vector<double> states = h; // finite differences write others
    agrees_with_differences({&r, &v, &c}, samples, forward,
                            linear_sequence<double>{states.data(), e.data(), samples, steps, hidden, hidden, hidden,
                                                    samples * hidden, hidden, samples * hidden},
                            linear_sequence<double>{x.data(), e.data(), samples, steps, inputs, hidden, inputs,
                                                    samples * inputs, hidden, samples * hidden},
                            bias(e.data(), {samples, steps, hidden, hidden, samples * hidden, 1}));
  }
}

TEST_CASE("contributions: an embedding, a norm's gain and a linear layer are clipped by their finite differences") {
  // z = M sum over t of g * x_t / rms(x_t) with x_t = E[token_t], loss = sum of log cosh z. Token 0 is padding.
  constexpr isize samples = 3, positions = 4, vocabulary = 5, width = 3, outputs = 2;
  const std::vector<std::int32_t> tokens = {1, 2, 1, 0, 4, 4, 4, 4, 3, 0, 2, 1};
  std::vector<double> table = random_numbers<double>(vocabulary * width, 1), gain = random_numbers<double>(width, 2),
                      m = random_numbers<double>(outputs * width, 3);
  std::vector<double> normalized(static_cast<std::size_t>(samples * positions * width)), of_gain(normalized.size()),
      of_table(normalized.size()), pooled(static_cast<std::size_t>(samples * width)),
      of_z(static_cast<std::size_t>(samples * outputs));
  const auto rms = [&](isize row) {
    double squares = 1e-3;
    for (isize k = 0; k < width; ++k)
      squares += table[at(tokens[at(row, 1, 0)], width, k)] * table[at(tokens[at(row, 1, 0)], width, k)] / width;
    return std::sqrt(squares);
  };
  const auto forward = [&](isize i) {
    for (isize k = 0; k < width; ++k) pooled[at(i, width, k)] = 0;
    for (isize row = i * positions; row < (i + 1) * positions; ++row) {
      if (tokens[at(row, 1, 0)] == 0) continue;
      for (isize k = 0; k < width; ++k) {
        normalized[at(row, width, k)] = table[at(tokens[at(row, 1, 0)], width, k)] / rms(row);
        pooled[at(i, width, k)] += gain[static_cast<std::size_t>(k)] * normalized[at(row, width, k)];
      }
    }
    double loss = 0;
    for (isize o = 0; o < outputs; ++o) {
      double z = 0;
      for (isize k = 0; k < width; ++k) z += m[at(o, width, k)] * pooled[at(i, width, k)];
      of_z[at(i, outputs, o)] = std::tanh(z);
      loss += std::log(std::cosh(z));
    }
    return loss;
  };
  for (isize i = 0; i < samples; ++i) {
    forward(i);
    for (isize row = i * positions; row < (i + 1) * positions; ++row) {
      if (tokens[at(row, 1, 0)] == 0) continue; // their gradients stay zero
      double along = 0;
      for (isize k = 0; k < width; ++k) {
        for (isize o = 0; o < outputs; ++o) of_gain[at(row, width, k)] += m[at(o, width, k)] * of_z[at(i, outputs, o)];
        along += gain[static_cast<std::size_t>(k)] * of_gain[at(row, width, k)] * normalized[at(row, width, k)] / width;
      }
      for (isize k = 0; k < width; ++k)
        of_table[at(row, width, k)] =
            (gain[static_cast<std::size_t>(k)] * of_gain[at(row, width, k)] - normalized[at(row, width, k)] * along) /
            rms(row);
    }
  }
  const std::vector<double> x = normalized, s = pooled, e = of_z; // finite differences write others
  agrees_with_differences(
      {&table, &gain, &m}, samples, forward,
      embedding<double>(tokens.data(), of_table.data(), samples, positions, vocabulary, width, 0),
      normalization_weight(x.data(), of_gain.data(), channel_layout::channels_last(samples, positions, width)),
      linear_weight<double>{s.data(), e.data(), samples, width, outputs});
}

TEST_CASE("contributions: an embedding that is also the output layer is clipped by its finite differences") {
  // logits_t = W tanh(W[token_t]), loss = sum over t of the cross entropy with the token after it.
  constexpr isize samples = 2, positions = 4, vocabulary = 4, width = 3;
  const std::vector<std::int32_t> tokens = {0, 1, 0, 3, 2, 2, 2, 2};
  std::vector<double> w = random_numbers<double>(vocabulary * width, 1);
  std::vector<double> h(static_cast<std::size_t>(samples * positions * width)), lookups(h.size()),
      logits(static_cast<std::size_t>(samples * positions * vocabulary));
  const auto forward = [&](isize i) { // leaves softmax minus target in logits
    double loss = 0;
    for (isize t = 0; t < positions; ++t) {
      const isize row = i * positions + t;
      const isize next = tokens[static_cast<std::size_t>(i * positions + (t + 1) % positions)];
      double total = 0;
      for (isize k = 0; k < width; ++k)
        h[at(row, width, k)] = std::tanh(w[at(tokens[static_cast<std::size_t>(row)], width, k)]);
      for (isize v = 0; v < vocabulary; ++v) {
        double y = 0;
        for (isize k = 0; k < width; ++k) y += w[at(v, width, k)] * h[at(row, width, k)];
        total += logits[at(row, vocabulary, v)] = std::exp(y);
      }
      loss -= std::log(logits[at(row, vocabulary, next)] / total);
      for (isize v = 0; v < vocabulary; ++v) logits[at(row, vocabulary, v)] /= total;
      logits[at(row, vocabulary, next)] -= 1;
    }
    return loss;
  };
  for (isize i = 0; i < samples; ++i) {
    forward(i);
    for (isize row = i * positions; row < (i + 1) * positions; ++row)
      for (isize k = 0; k < width; ++k) {
        double back = 0;
        for (isize v = 0; v < vocabulary; ++v) back += w[at(v, width, k)] * logits[at(row, vocabulary, v)];
        lookups[at(row, width, k)] = back * (1 - h[at(row, width, k)] * h[at(row, width, k)]);
      }
  }
  const std::vector<double> activations = h, e = logits; // finite differences write others
  agrees_with_differences({&w}, samples, forward,
                          tied_embedding<double>{tokens.data(), lookups.data(), activations.data(), e.data(), samples,
                                                 positions, positions, vocabulary, width});
}

TEST_CASE("contributions: dilated, strided and depthwise convolutions are clipped by their finite differences") {
  // y = conv(x; w) + c by channel, loss = sum of sin(y).
  constexpr isize samples = 3;
  const std::vector<convolution_geometry> table = {
      {.input_channels = 2,
       .output_channels = 3,
       .input_size = {9},
       .kernel_size = {3},
       .padding = {2},
       .dilation = {2}},
      {.input_channels = 2,
       .output_channels = 2,
       .input_size = {4, 3, 5},
       .kernel_size = {2, 2, 2},
       .stride = {1, 1, 2},
       .padding = {1, 0, 1},
       .dilation = {2, 1, 3}},
      {.input_channels = 4, .output_channels = 4, .input_size = {7}, .kernel_size = {3}, .dilation = {2}, .groups = 4},
      {.input_channels = 3,
       .output_channels = 6, // two filters a channel
       .input_size = {4, 4},
       .kernel_size = {3, 2},
       .padding = {1, 1},
       .groups = 3},
  };
  for (const convolution_geometry& g : table) {
    REQUIRE(g.problem() == "");
    const isize positions = g.output_positions(), in = g.input_channels * g.input_positions(),
                out = g.output_channels * positions;
    std::vector<double> w = random_numbers<double>(g.output_channels * g.columns(), 1),
                        c = random_numbers<double>(g.output_channels, 2);
    const auto x = random_numbers<double>(samples * in, 3);
    std::vector<double> y(static_cast<std::size_t>(out)), e;
    const auto loss = [&](isize i) {
      for (isize k = 0; k < out; ++k) y[static_cast<std::size_t>(k)] = c[static_cast<std::size_t>(k / positions)];
      for_each_product(g, [&](isize o, isize t, isize weight, isize input) {
        y[at(o, positions, t)] += w[static_cast<std::size_t>(weight)] * x[at(i, in, input)];
      });
      double sum = 0;
      for (const double v : y) sum += std::sin(v);
      return sum;
    };
    for (isize i = 0; i < samples; ++i) {
      loss(i);
      for (const double v : y) e.push_back(std::cos(v));
    }
    agrees_with_differences({&w, &c}, samples, loss, convolution_weight<double>(x.data(), e.data(), samples, g),
                            bias(e.data(), channel_layout::channels_first(samples, g.output_channels, positions)));
  }
}

TEST_CASE("contributions: gains of GroupNorm and InstanceNorm, and what lies below, by their finite differences") {
  // u = conv(x; w), n = u normalized over the channels and positions of a group, loss = sum of sin(gain n + shift).
  constexpr isize samples = 3, channels = 4;
  const convolution_geometry g{
      .input_channels = 2, .output_channels = channels, .input_size = {6}, .kernel_size = {2}, .dilation = {2}};
  const isize positions = g.output_positions(), in = g.input_channels * g.input_positions(), out = channels * positions;
  for (const isize groups : {isize{2}, channels}) { // GroupNorm and InstanceNorm
    std::vector<double> w = random_numbers<double>(channels * g.columns(), 1),
                        gain = random_numbers<double>(channels, 2), shift = random_numbers<double>(channels, 3);
    const auto x = random_numbers<double>(samples * in, 4);
    const isize members = out / groups;
    std::vector<double> n(static_cast<std::size_t>(out)), of_y(n.size()), deviations(static_cast<std::size_t>(groups));
    const auto forward = [&](isize i) {
      std::fill(n.begin(), n.end(), 0.0);
      for_each_product(g, [&](isize o, isize t, isize weight, isize input) {
        n[at(o, positions, t)] += w[static_cast<std::size_t>(weight)] * x[at(i, in, input)];
      });
      for (isize group = 0; group < groups; ++group) {
        double mean = 0, variance = 1e-3;
        for (isize k = 0; k < members; ++k) mean += n[at(group, members, k)] / static_cast<double>(members);
        for (isize k = 0; k < members; ++k)
          variance += std::pow(n[at(group, members, k)] - mean, 2) / static_cast<double>(members);
        deviations[static_cast<std::size_t>(group)] = std::sqrt(variance);
        for (isize k = 0; k < members; ++k)
          n[at(group, members, k)] = (n[at(group, members, k)] - mean) / std::sqrt(variance);
      }
      double loss = 0;
      for (isize c = 0; c < channels; ++c)
        for (isize t = 0; t < positions; ++t) {
          const double y =
              gain[static_cast<std::size_t>(c)] * n[at(c, positions, t)] + shift[static_cast<std::size_t>(c)];
          of_y[at(c, positions, t)] = std::cos(y);
          loss += std::sin(y);
        }
      return loss;
    };
    std::vector<double> normalized, of_outputs, of_u;
    for (isize i = 0; i < samples; ++i) {
      forward(i);
      normalized.insert(normalized.end(), n.begin(), n.end());
      of_outputs.insert(of_outputs.end(), of_y.begin(), of_y.end());
      for (isize group = 0; group < groups; ++group) {
        const auto of_n = [&](isize k) {
          return gain[static_cast<std::size_t>((group * members + k) / positions)] * of_y[at(group, members, k)];
        };
        double mean = 0, along = 0;
        for (isize k = 0; k < members; ++k) {
          mean += of_n(k) / static_cast<double>(members);
          along += of_n(k) * n[at(group, members, k)] / static_cast<double>(members);
        }
        for (isize k = 0; k < members; ++k)
          of_u.push_back((of_n(k) - mean - along * n[at(group, members, k)]) /
                         deviations[static_cast<std::size_t>(group)]);
      }
    }
    const auto layout = channel_layout::channels_first(samples, channels, positions);
    agrees_with_differences(
        {&w, &gain, &shift}, samples, forward, convolution_weight<double>(x.data(), of_u.data(), samples, g),
        normalization_weight(normalized.data(), of_outputs.data(), layout), bias(of_outputs.data(), layout));
  }
}
