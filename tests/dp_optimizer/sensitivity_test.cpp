// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// The promise that the noise is calibrated to: one record more, less or another moves the sum before the noise by at
// most sensitivity(relation). The sum is observed end to end: a release without noise and without a divisor.
//
// One record alone is held to the bound itself, and so is any batch on the integer grid. A floating sum of n records
// rounds with each addition, so that there a move may be larger by 2 n u times the norms that were added (u = half an
// ulp of 1); that is the accumulator's documented summation order and no matter of clipping.
#include "support/catch.hpp"

#include "dpopt/accounting/no_accountant.hpp"
#include "dpopt/accumulation/integer_grid.hpp"
#include "dpopt/accumulation/running_sum.hpp"
#include "dpopt/clipping/flat.hpp"
#include "dpopt/clipping/per_layer.hpp"
#include "dpopt/dp_optimizer/dp_optimizer.hpp"
#include "dpopt/gradients/linear_weight.hpp"
#include "dpopt/gradients/materialized.hpp"
#include "dpopt/noise/counter_gaussian.hpp"
#include "dpopt/scaling/scaling.hpp"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <limits>
#include <random>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

using namespace dpopt;

namespace {

// A linear layer with its weight, never materialized, and its bias, and a table whose gradients are written out.
constexpr isize inputs = 20;
constexpr isize outputs = 6;
constexpr isize table = 300;
constexpr double weight_bound = 0.9;
constexpr double bias_bound = 0.2;
constexpr double table_bound = 1.7;
constexpr double flat_bound = 1.1;

/// One record: its gradient is output x input, output, rows.
struct record {
  std::vector<double> input, output, rows;
};
using batch = std::vector<record>;

template <class Sum>
using master_of = std::conditional_t<std::is_same_v<Sum, running_sum<float>>, float, double>;

per_layer per_layer_clipper() { return {{weight_bound, bias_bound, table_bound}}; }
flat flat_clipper() { return {flat_bound}; }

/// The un-noised sums of weight, bias and table. U is the type of what the trainer hands over.
template <class U, class Sum, class When = as_ready, class Clip>
std::vector<std::vector<double>> sums_of(const Clip& clipper, const batch& records) {
  using T = master_of<Sum>;
  std::vector<std::vector<T>> values{std::vector<T>(inputs * outputs), std::vector<T>(outputs), std::vector<T>(table)};
  std::vector<std::vector<T>> sums = values;
  const std::vector<parameter_view<T>> views{
      {"weight", values[0], sums[0]}, {"bias", values[1], sums[1]}, {"table", values[2], sums[2]}};
  dp_optimizer opt(views, dp_options{}, clipper, Sum{}, counter_gaussian{.noise_multiplier = 0}, unscaled{}, When{},
                   no_accountant{});
  std::vector<U> input, output, rows;
  for (const record& r : records) {
    for (const double v : r.input) input.push_back(static_cast<U>(v));
    for (const double v : r.output) output.push_back(static_cast<U>(v));
    for (const double v : r.rows) rows.push_back(static_cast<U>(v));
  }
  const isize n = std::ssize(records);
  opt.begin({.samples = n});
  opt.gradient_ready(2, materialized<U>(rows.data(), n, table));
  opt.gradient_ready(1, materialized<U>(output.data(), n, outputs));
  opt.gradient_ready(0, linear_weight<U>{input.data(), output.data(), n, inputs, outputs});
  opt.pre_step();
  std::vector<std::vector<double>> out;
  for (const auto& s : sums) out.emplace_back(s.begin(), s.end());
  return out;
}

/// Norms in a wider type than anything under test.
long double squared(const std::vector<double>& a, const std::vector<double>& b) {
  long double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) {
    const long double d = static_cast<long double>(a[i]) - (b.empty() ? 0.0L : static_cast<long double>(b[i]));
    sum += d * d;
  }
  return sum;
}
double norm(const std::vector<double>& a, const std::vector<double>& b = {}) {
  return static_cast<double>(std::sqrt(squared(a, b)));
}
double norm(const std::vector<std::vector<double>>& a, const std::vector<std::vector<double>>& b = {}) {
  long double sum = 0;
  for (std::size_t p = 0; p < a.size(); ++p) sum += squared(a[p], b.empty() ? std::vector<double>{} : b[p]);
  return static_cast<double>(std::sqrt(sum));
}

class random_numbers {
public:
  explicit random_numbers(std::uint64_t seed) : generator_(seed) {}
  double in(double low, double high) { return low + (high - low) * static_cast<double>(generator_() >> 11) * 0x1p-53; }
  /// n numbers of both signs with the norm 10^exponent.
  std::vector<double> vector(isize n, double exponent) {
    std::vector<double> out(static_cast<std::size_t>(n));
    for (double& v : out) v = in(-1, 1);
    const double scale = std::pow(10.0, exponent) / norm(out);
    for (double& v : out) v *= scale;
    return out;
  }
  record any(double least_exponent, double most_exponent) {
    const auto exponent = [&] { return in(least_exponent, most_exponent); };
    const double half = exponent() / 2; // of input and output each, so that the product has the range asked for
    return {vector(inputs, half), vector(outputs, half), vector(table, exponent())};
  }

private:
  std::mt19937_64 generator_;
};

record constant(double in, double out, double row) {
  return {std::vector<double>(inputs, in), std::vector<double>(outputs, out), std::vector<double>(table, row)};
}
record opposite(record r) { // of every gradient; the weight's changes sign through the output
  for (double& v : r.output) v = -v;
  for (double& v : r.rows) v = -v;
  return r;
}

/// Records made to be as large as a bound allows, or to break it by rounding. Finite in float.
std::vector<record> adversaries() {
  std::vector<record> out;
  for (const double size : {1e-30, 1e-12, 1e-6, 1e-3, 1.0, 1e3, 1e6, 1e12, 1e18})
    out.push_back(constant(size, size, size));
  for (const double row : {1e30, 3e37, 2.9e38, 3.3e38, 1e-38, 1e-40, 1.4e-45}) {
    out.push_back(constant(1, row, row));
    out.push_back(constant(row, 1, row));
  }
  for (const double tiny :
       {1.4e-45, 4.2e-45, 7e-45, 1e-44, 1.3e-44}) // products and factors that are subnormal in float
    for (const double huge : {1e36, 1e37, 1.1e38, 3.3e38}) {
      out.push_back(constant(huge, tiny, huge));
      out.push_back(constant(tiny, huge, huge));
    }
  // At the bound, where "clip or not" is decided: each group's norm is C, or C - 1e-6, or an ulp beside.
  for (const double off : {0.0, -1e-6, 1e-6})
    for (const double ulps : {-4.0, -1.0, 0.0, 1.0, 4.0})
      for (const double one_ulp : {0x1p-52, 0x1p-23}) {
        const double rounding = 1 + ulps * one_ulp;
        const double e = (bias_bound + off) * rounding / std::sqrt(double{outputs});
        const double a = (weight_bound + off) * rounding / ((bias_bound + off) * std::sqrt(double{inputs}));
        out.push_back(constant(a, e, (table_bound + off) * rounding / std::sqrt(double{table})));
        const double all = (flat_bound + off) * rounding / std::sqrt(3.0); // three equal parts of a flat norm
        out.push_back(
            constant(1 / std::sqrt(double{inputs}), all / std::sqrt(double{outputs}), all / std::sqrt(double{table})));
      }
  record spike = constant(0, 0, 0); // all of a norm in one element
  spike.input[3] = 2e4;
  spike.output[5] = -1e4;
  spike.rows[7] = 3e8;
  out.push_back(spike);
  return out;
}

/// The bound, with what the oracle's own rounding of a square root may take from it.
bool within(double moved, double bound) { return moved <= bound * (1 + 1e-15); }

template <class U, class Sum, class Clip>
void one_record_alone_is_within(const Clip& clipper, const std::vector<record>& records) {
  Clip bound = clipper;
  const std::vector<parameter_info> infos{{"weight", inputs * outputs}, {"bias", outputs}, {"table", table}};
  bound.bind(infos);
  const double limits[] = {weight_bound, bias_bound, table_bound};
  for (std::size_t i = 0; i < records.size(); ++i) {
    INFO("record " << i << ": " << records[i].input[0] << ", " << records[i].output[0] << ", " << records[i].rows[0]);
    const auto sums = sums_of<U, Sum>(clipper, {records[i]});
    CHECK(within(norm(sums), bound.sensitivity(neighbouring::add_remove)));
    if constexpr (std::is_same_v<Clip, per_layer>)
      for (std::size_t p = 0; p < 3; ++p) CHECK(within(norm(sums[p]), limits[p]));
  }
}

/// Every record of the batch removed, zeroed out, and replaced by its opposite and by another one.
template <class U, class Sum, class When = as_ready, class Clip>
void batch_moves_within(const Clip& clipper, const batch& records, const record& other) {
  Clip bound = clipper;
  const std::vector<parameter_info> infos{{"weight", inputs * outputs}, {"bias", outputs}, {"table", table}};
  bound.bind(infos);
  const double once = bound.sensitivity(neighbouring::add_remove);
  const double zeroed = bound.sensitivity(neighbouring::zero_out);
  const double twice = bound.sensitivity(neighbouring::replace_one);
  double rounding = 0;
  if constexpr (!std::is_same_v<Sum, integer_grid>) {
    const double n = static_cast<double>(records.size());
    rounding = 2 * n * (std::numeric_limits<typename Sum::value_type>::epsilon() / 2) * n * once;
  }
  const auto whole = sums_of<U, Sum, When>(clipper, records);
  for (std::size_t i = 0; i < records.size(); ++i) {
    batch changed = records;
    changed.erase(changed.begin() + static_cast<std::ptrdiff_t>(i));
    CHECK(within(norm(whole, sums_of<U, Sum, When>(clipper, changed)), once + rounding));
    changed = records;
    changed[i] = constant(0, 0, 0);
    CHECK(within(norm(whole, sums_of<U, Sum, When>(clipper, changed)), zeroed + rounding));
    changed[i] = opposite(records[i]);
    CHECK(within(norm(whole, sums_of<U, Sum, When>(clipper, changed)), twice + rounding));
    changed[i] = other;
    CHECK(within(norm(whole, sums_of<U, Sum, When>(clipper, changed)), twice + rounding));
  }
}

/// The bound is reached: the noise is not larger than it must be.
template <class U, class Sum, class Clip>
void bound_is_reached(const Clip& clipper) {
  Clip bound = clipper;
  const std::vector<parameter_info> infos{{"weight", inputs * outputs}, {"bias", outputs}, {"table", table}};
  bound.bind(infos);
  const record large = constant(1e3, -2e3, 3e6);
  const auto whole = sums_of<U, Sum>(clipper, {large, constant(1, 1, 1)});
  const double removed = norm(whole, sums_of<U, Sum>(clipper, {constant(1, 1, 1)}));
  const double replaced = norm(whole, sums_of<U, Sum>(clipper, {opposite(large), constant(1, 1, 1)}));
  CHECK(removed >= bound.sensitivity(neighbouring::add_remove) * (1 - 1e-5));
  CHECK(removed >= bound.sensitivity(neighbouring::zero_out) * (1 - 1e-5));
  CHECK(replaced >= bound.sensitivity(neighbouring::replace_one) * (1 - 1e-5));
}

template <class U, class Sum>
void everything() {
  random_numbers random(std::is_same_v<U, float> ? 11 : 12);
  std::vector<record> alone = adversaries();
  for (int k = 0; k < 60; ++k) alone.push_back(random.any(-3, 3));
  for (int k = 0; k < 40; ++k) alone.push_back(random.any(-30, 30));
  if (std::is_same_v<U, double>)
    for (int k = 0; k < 40; ++k) alone.push_back(random.any(-140, 140));
  one_record_alone_is_within<U, Sum>(flat_clipper(), alone);
  one_record_alone_is_within<U, Sum>(per_layer_clipper(), alone);

  batch mixed;
  for (int k = 0; k < 6; ++k) mixed.push_back(random.any(-2, 2));
  mixed.push_back(random.any(-30, 30));
  mixed.push_back(constant(1e3, 1e3, 1e6));
  mixed.push_back(constant(1e-3, 1e-3, 1e-6));
  const record other = random.any(2, 6);
  batch_moves_within<U, Sum>(flat_clipper(), mixed, other);
  batch_moves_within<U, Sum>(per_layer_clipper(), mixed, other);
  const batch alike(9, constant(1e3, 1e3, 1e6)); // all in one direction
  batch_moves_within<U, Sum>(flat_clipper(), alike, opposite(alike[0]));
  batch_moves_within<U, Sum>(per_layer_clipper(), alike, opposite(alike[0]));

  bound_is_reached<U, Sum>(flat_clipper());
  bound_is_reached<U, Sum>(per_layer_clipper());
}

} // namespace

TEST_CASE("no record moves a float sum of float gradients by more than the sensitivity") {
  everything<float, running_sum<float>>();
}
TEST_CASE("no record moves a double sum of float gradients by more than the sensitivity") {
  everything<float, running_sum<double>>();
}
TEST_CASE("no record moves a double sum of double gradients by more than the sensitivity") {
  everything<double, running_sum<double>>();
}
TEST_CASE("no record moves an integer sum of float gradients by more than the sensitivity") {
  everything<float, integer_grid>();
}
TEST_CASE("no record moves an integer sum of double gradients by more than the sensitivity") {
  everything<double, integer_grid>();
}

TEST_CASE("no record moves the sum by more than the sensitivity when everything is done in the step") {
  random_numbers random(13);
  batch mixed;
  for (int k = 0; k < 8; ++k) mixed.push_back(random.any(-2, 2));
  batch_moves_within<float, integer_grid, at_step>(flat_clipper(), mixed, random.any(1, 3));
  batch_moves_within<float, integer_grid, at_step>(per_layer_clipper(), mixed, random.any(1, 3));
}

TEST_CASE("a small bound holds for numbers near the largest of float") {
  // The factor is subnormal in float here: rounded to nearest it would exceed the bound by up to several per cent.
  for (const double row : {3.402823e38, 3.3e38, 2.7e38, 1.9e38, 1.1e38, 6e37})
    for (const double c : {1e-2, 1e-3, 3e-4, 1e-4, 2e-5}) {
      INFO("rows of " << row << ", bound " << c);
      CHECK(within(norm(sums_of<float, running_sum<float>>(flat{c}, {constant(0, 0, row)})), c));
      CHECK(within(norm(sums_of<float, running_sum<float>>(per_layer{{c, c, c}}, {constant(0, row, row)})[1]), c));
    }
}

TEST_CASE("a small bound holds for a linear layer of huge inputs and subnormal output gradients") {
  for (int quanta = 1; quanta <= 40; ++quanta) {
    const double e = quanta * 0x1p-149; // the smallest float
    for (const double a : {3.4e38, 2.2e38, 1e38})
      for (const double part : {0.95, 0.8, 0.61, 0.4, 0.26}) { // of the record's own norm
        const double own =
            e * std::sqrt(double{outputs}) * static_cast<double>(static_cast<float>(a)) * std::sqrt(double{inputs});
        const double c = own * part;
        INFO(quanta << " quanta, inputs of " << a << ", bound " << c);
        CHECK(within(norm(sums_of<float, running_sum<float>>(per_layer{{c, 1.0, 1.0}}, {constant(a, e, 0)})[0]), c));
      }
  }
}

TEST_CASE("the bound holds for a large parameter, whose norm is the rounded sum of many squares") {
  constexpr isize n = isize{1} << 18; // of equal numbers, so that all roundings may be down; sqrt(n) is exact
  std::vector<double> value(n), sum(n), row(n);
  const std::vector<parameter_view<double>> views{{"w", value, sum}};
  dp_optimizer opt(views, dp_options{}, flat{flat_bound}, running_sum<double>{},
                   counter_gaussian{.noise_multiplier = 0}, unscaled{}, no_accountant{});
  random_numbers random(14);
  for (int k = 0; k < 12; ++k) {
    row.assign(row.size(), random.in(1e6, 9e6)); // so large that 1e-6 beside the norm is nothing
    opt.begin({.samples = 1});
    opt.gradient_ready(0, materialized<double>(row.data(), 1, n));
    opt.pre_step();
    REQUIRE(sum == std::vector<double>(row.size(), sum[0]));
    CHECK(within(sum[0] * 512, flat_bound));
  }
}

TEST_CASE("a record with a number that is not finite moves nothing of its group") {
  const double bad[] = {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity(),
                        -std::numeric_limits<double>::infinity()};
  const batch rest{constant(1, 1, 1), constant(-2, 0.5, 1e-3)};
  const auto flat_rest = sums_of<float, running_sum<float>>(flat_clipper(), rest);
  const auto layers_rest = sums_of<float, running_sum<float>>(per_layer_clipper(), rest);
  for (const double v : bad) {
    batch with = rest;
    with.insert(with.begin() + 1, constant(1, 1, 1));
    with[1].rows[100] = v;
    CHECK(sums_of<float, running_sum<float>>(flat_clipper(), with) == flat_rest);
    const auto layers = sums_of<float, running_sum<float>>(per_layer_clipper(), with);
    CHECK(layers[2] == layers_rest[2]);
    CHECK(within(norm(layers, layers_rest),
                 std::sqrt(weight_bound * weight_bound + bias_bound * bias_bound) * (1 + 1e-6)));
    with[1] = constant(1, 1, 1);
    with[1].output[2] = v; // in weight and bias
    CHECK(sums_of<float, running_sum<float>>(flat_clipper(), with) == flat_rest);
    CHECK(sums_of<float, running_sum<float>>(per_layer_clipper(), with)[0] == layers_rest[0]);
    CHECK(sums_of<float, running_sum<float>>(per_layer_clipper(), with)[1] == layers_rest[1]);
  }
}
