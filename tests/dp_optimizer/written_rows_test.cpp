// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// Parameters that are clipped by themselves, from rows written out a few at a time, and rows that wait for a shared
// norm.
#include "dpopt/accumulation/compensated_sum.hpp"
#include "dpopt/accumulation/integer_grid.hpp"
#include "dpopt/accumulation/running_sum.hpp"
#include "dpopt/clipping/flat.hpp"
#include "dpopt/clipping/per_layer.hpp"
#include "dpopt/dp_optimizer/contributions.hpp"
#include "dpopt/gradients/linear_sequence.hpp"
#include "support/catch.hpp"
#include "support/random_numbers.hpp"
#include "support/source_conformance.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <type_traits>
#include <vector>

using namespace dpopt;
using namespace dpopt::test;

namespace {

constexpr isize batch = 7, positions = 9, inputs = 100, outputs = 80; // two rows at a time

struct sequences {
  std::vector<float> a = random_numbers<float>(batch * positions * inputs, 1);
  std::vector<float> e = random_numbers<float>(batch * positions * outputs, 2);

  /// All numbers of a sample times these.
  void scale(isize i, float of_inputs, float of_gradients) {
    for (isize k = 0; k < positions * inputs; ++k) a[static_cast<std::size_t>(i * positions * inputs + k)] *= of_inputs;
    for (isize k = 0; k < positions * outputs; ++k)
      e[static_cast<std::size_t>(i * positions * outputs + k)] *= of_gradients;
  }
  template <class Product = portable_product>
  [[nodiscard]] linear_sequence<float, Product> source(isize first = 0, isize count = batch) const {
    return {a.data() + first * positions * inputs,
            e.data() + first * positions * outputs,
            count,
            positions,
            inputs,
            outputs};
  }
};

template <class A = running_sum<float>>
struct clipped {
  contributions<per_layer, A> sums{per_layer{{1.0}}, A{}};

  clipped() { sums.bind({{"weight", inputs * outputs}}, {0}); }
  template <class S>
  void add(const S& source, microbatch m = {}, bool later = false) {
    m.samples = source.batch();
    sums.begin(m);
    const auto done = [](isize) {};
    if (!later) return sums.add(0, source, done);
    sums.defer(0, source);
    sums.flush(done);
  }
  [[nodiscard]] std::vector<typename A::value_type> result() {
    return {sums.sum().data(), sums.sum().data() + inputs * outputs};
  }
};

/// The sum of samples clipped to 1, from gradients in double.
std::vector<double> by_definition(const linear_sequence<float>& s) {
  std::vector<double> sum(static_cast<std::size_t>(s.size())), g(sum.size());
  for (isize i = 0; i < s.batch(); ++i) {
    s.copy_sample(i, 0, s.size(), 1, g.data());
    const double norm = static_cast<double>(norm_of(g));
    for (std::size_t k = 0; k < sum.size(); ++k) sum[k] += g[k] * std::min(1.0, 1 / (norm + 1e-6));
  }
  return sum;
}

/// A product that must not be asked.
struct no_product {
  template <std::floating_point T>
  void add(isize m, isize n, isize, strided_rows<const T>, strided_rows<const T>, strided_rows<T> out,
           workspace&) const {
    for (isize r = 0; r < m; ++r) std::fill_n(out.row(r), n, std::numeric_limits<T>::quiet_NaN());
  }
  template <std::floating_point T>
  void add_transposed(isize m, isize n, isize count, strided_rows<const T> a, strided_rows<const T> b,
                      strided_rows<T> out, workspace& w) const {
    add(m, n, count, a, b, out, w);
  }
};

/// A product of which each is `more` times the one before.
struct growing_product {
  static inline float next = 1, more = 1;

  template <std::floating_point T>
  void add(isize m, isize n, isize count, strided_rows<const T> a, strided_rows<const T> b, strided_rows<T> out,
           workspace& w) const {
    portable_product{}.add(m, n, count, a, b, out, w);
    for (isize r = 0; r < m; ++r)
      for (isize k = 0; k < n; ++k) out.row(r)[k] *= static_cast<T>(next);
    next *= more;
  }
  template <std::floating_point T>
  void add_transposed(isize, isize, isize, strided_rows<const T>, strided_rows<const T>, strided_rows<T>,
                      workspace&) const {}
};

} // namespace

TEST_CASE("written rows: each sample is clipped by its own norm, also beside samples that leave the range of floats") {
  sequences s;
  REQUIRE(s.source().rows_are_cheaper());
  REQUIRE(rows_at_once<float>(inputs * outputs) == 2);
  s.scale(0, 1e-3F, 1e-3F); // not clipped
  s.scale(1, 1e25F, 1e25F); // in the middle of a block: a row of infinities, and a contribution like any other
  s.scale(3, 1e-30F, 1e-30F);
  s.scale(5, 1e-2F, 1e-2F);
  clipped<> sums;
  sums.add(s.source());
  const std::vector<double> expected = by_definition(s.source());
  const std::vector<float> got = sums.result();
  for (std::size_t k = 0; k < got.size(); ++k) CHECK(std::abs(static_cast<double>(got[k]) - expected[k]) < 2e-6);
  CHECK(sums.sums.counts().samples == batch);
  CHECK(sums.sums.counts().clipped == batch - 3);
  CHECK(sums.sums.counts().non_finite == 0);
}

TEST_CASE("written rows: what is added has at most the bound, however positions cancel") {
  for (const float left : {0.0F, 1e-7F, 1e-5F, 1e-3F, 1.0F}) {
    sequences s;
    for (isize t = 1; t < positions - 1; t += 2) // a position takes back what the one before adds, all but this
      for (isize k = 0; k < inputs; ++k) {
        const auto at = static_cast<std::size_t>(t * inputs + k);
        s.a[at] = -s.a[at - inputs] * (1 + left);
      }
    for (isize t = 1; t < positions - 1; t += 2)
      for (isize k = 0; k < outputs; ++k) {
        const auto at = static_cast<std::size_t>(t * outputs + k);
        s.e[at] = s.e[at - outputs];
      }
    for (isize k = 0; k < inputs; ++k) s.a[static_cast<std::size_t>((positions - 1) * inputs + k)] *= left;
    s.scale(0, 1e6F, 1e6F);
    clipped<> sums;
    sums.add(s.source(0, 1));
    CHECK(norm_of(sums.result()) <= 1);
  }
}

TEST_CASE("written rows: views worked off later, and batches in parts, have the bits of all at once") {
  sequences s;
  s.scale(1, 1e25F, 1e25F);
  s.scale(3, 1e-3F, 1e-3F);
  clipped<> now, later, parts;
  now.add(s.source());
  later.add(s.source(), {}, true);
  CHECK(later.result() == now.result());
  for (const auto& [first, count] : {std::array<isize, 2>{0, 2}, {2, 0}, {2, 4}, {6, 1}})
    parts.add(s.source(first, count));
  CHECK(parts.result() == now.result());
}

TEST_CASE("written rows: samples of weight 0 or without finite numbers add nothing, and no one else's change") {
  sequences s;
  clipped<> without, with;
  without.add(s.source(0, 2));
  without.add(s.source(4, 3));
  s.a[2 * positions * inputs] = std::numeric_limits<float>::quiet_NaN();     // masked
  s.e[3 * positions * outputs + 1] = std::numeric_limits<float>::infinity(); // dropped
  const std::vector<double> weights = {1, 1, 0, 1, 1, 1, 1};
  with.add(s.source(), {.weights = weights.data()});
  CHECK(with.result() == without.result());
  CHECK(with.sums.counts().non_finite == 1);
  clipped<> none;
  none.add(s.source(0, 0));
  CHECK(none.result() == std::vector<float>(inputs * outputs, 0.0F));
}

TEST_CASE("written rows: kept for a norm of several parameters, they give the sum of factors from that norm") {
  sequences s;
  s.scale(1, 1e25F, 1e25F);
  s.scale(3, 1e-3F, 1e-3F);
  const auto shift = random_numbers<float>(batch * outputs, 3);
  constexpr isize row = inputs * outputs * isize{sizeof(float)};
  const auto summed = [&](isize room, bool later) {
    std::vector<float> of_batch;
    contributions<flat, running_sum<float>> sums{flat{1.0}, {}};
    sums.bind({{"weight", inputs * outputs}, {"bias", outputs}}, {0, inputs * outputs});
    sums.keep_rows(room);
    for (const isize count : {batch, isize{2}, isize{0}}) { // also fewer samples than the last time
      sums.clear_sum();
      sums.begin({.samples = count});
      const auto done = [](isize) {};
      const auto weight = s.source(0, count);
      const materialized<float> bias(shift.data(), count, outputs);
      if (later) sums.defer(0, weight), sums.defer(1, bias), sums.flush(done);
      else sums.add(0, weight, done), sums.add(1, bias, done);
      if (count != batch) continue;
      std::vector<double> norms(batch, 0.0), sum(inputs * outputs), g(sum.size());
      for (isize i = 0; i < batch; ++i) {
        weight.copy_sample(i, 0, inputs * outputs, 1, g.data());
        const double both =
            std::hypot(static_cast<double>(norm_of(g)), std::sqrt(squared_norms_of(bias)[static_cast<std::size_t>(i)]));
        for (std::size_t k = 0; k < sum.size(); ++k) sum[k] += g[k] * std::min(1.0, 1 / (both + 1e-6));
      }
      for (std::size_t k = 0; k < sum.size(); ++k)
        CHECK(std::abs(static_cast<double>(sums.sum().data()[k]) - sum[k]) < 5e-6);
      of_batch.assign(sums.sum().data(), sums.sum().data() + inputs * outputs);
    }
    CHECK(std::all_of(sums.sum().data(), sums.sum().data() + inputs * outputs, [](float x) { return x == 0; }));
    sums.begin({.samples = batch}); // a step that ends with a norm missing leaves no rows behind
    sums.add(0, s.source(), [](isize) {});
    sums.begin({.samples = 1});
    sums.add(1, materialized<float>(shift.data(), 1, outputs), [](isize) {});
    sums.add_absent(0, [](isize) {});
    CHECK(std::all_of(sums.sum().data(), sums.sum().data() + inputs * outputs, [](float x) { return x == 0; }));
    return of_batch;
  };
  CHECK(summed(0, true) == summed(0, false));
  const std::vector<float> all_kept = summed(batch * row, false);
  for (const isize room :
       {isize{1}, row, 3 * row, batch * row - 1, batch * row}) // none fits, one, some, all but one, all
    for (const bool later : {true, false}) CHECK(summed(room, later) == all_kept);
}

TEST_CASE("written rows: room that changes while rows wait is for those to come") {
  sequences s;
  const auto shift = random_numbers<float>(batch * outputs, 3);
  const auto summed = [&](isize before, isize meanwhile) {
    contributions<flat, running_sum<float>> sums{flat{1.0}, {}};
    sums.bind({{"weight", inputs * outputs}, {"bias", outputs}}, {0, inputs * outputs});
    sums.keep_rows(before);
    sums.begin({.samples = batch});
    sums.add(0, s.source(), [](isize) {});
    sums.keep_rows(meanwhile);
    sums.add(1, materialized<float>(shift.data(), batch, outputs), [](isize) {});
    return std::vector<float>(sums.sum().data(), sums.sum().data() + inputs * outputs);
  };
  CHECK(summed(0, 1 << 20) == summed(0, 0));
  CHECK(summed(1 << 20, 0) == summed(1 << 20, 1 << 20));
  CHECK(summed(1, 1 << 20) == summed(1 << 20, 1));
}

TEST_CASE("written rows: those of a microbatch that failed are not added in the next one, whatever its room") {
  sequences s;
  const auto shift = random_numbers<float>(batch * outputs, 3);
  const auto summed = [&](isize before, isize next, bool forget) {
    contributions<flat, running_sum<float>> sums{flat{1.0}, {}};
    sums.bind({{"weight", inputs * outputs}, {"bias", outputs}}, {0, inputs * outputs});
    sums.keep_rows(before);
    sums.begin({.samples = batch});
    if (before > 0) sums.add(0, s.source(), [](isize) {}); // and the bias fails
    if (forget) sums.forget();
    sums.keep_rows(next);
    sums.begin({.samples = 2});
    sums.add(0, s.source(5, 2), [](isize) {});
    sums.add(1, materialized<float>(shift.data(), 2, outputs), [](isize) {});
    return std::vector<float>(sums.sum().data(), sums.sum().data() + inputs * outputs);
  };
  for (const bool forget : {true, false})
    for (const isize next : {isize{0}, isize{1}, isize{1} << 20})
      CHECK(summed(1 << 20, next, forget) == summed(0, next, forget));
}

TEST_CASE("written rows: a product that gives more the second time adds no more than the bound") {
  for (const float more : {1.0F, 1.0F + 1e-6F, 1.5F, 1e20F}) {
    sequences s;
    growing_product::next = 1;
    growing_product::more = more;
    contributions<flat, running_sum<float>> sums{flat{1.0}, {}};
    sums.bind({{"weight", inputs * outputs}, {"bias", outputs}}, {0, inputs * outputs});
    sums.keep_rows(1);
    sums.begin({.samples = 1});
    sums.add(0, s.source<growing_product>(0, 1), [](isize) {});
    sums.add_absent(1, [](isize) {});
    const std::vector<float> added(sums.sum().data(), sums.sum().data() + inputs * outputs);
    CHECK(norm_of(added) <= 1);
    CHECK(norm_of(added) > 0.999);
  }
  CHECK(factor_again(0, 1, 2) == 0);
  CHECK(factor_again(0.5, 4, 4) == 0.5);
  CHECK(factor_again(0.5, 4, 3) == 0.5);
  CHECK(factor_again(0.5, 4, std::numeric_limits<double>::infinity()) == 0);
  CHECK(factor_again(0.5, 4, std::numeric_limits<double>::quiet_NaN()) == 0);
}

TEST_CASE("written rows: sums that promise exact digits never see them, nor the product that makes them") {
  const sequences s;
  const auto same = [&]<class A>(std::type_identity<A>) {
    clipped<A> ours, theirs;
    ours.add(s.source());
    theirs.add(s.source<no_product>());
    CHECK(theirs.result() == ours.result());
    CHECK(ours.result() != std::vector<typename A::value_type>(inputs * outputs));
  };
  same(std::type_identity<integer_grid>{});
  same(std::type_identity<compensated_sum<float>>{});
}
