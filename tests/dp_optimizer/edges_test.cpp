// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// The table of edge cases: each row, from every kind of source, through every clipper, into every accumulator, against
// the definition in long double; also what a clipper that learns counts.
#include "dpopt/accumulation/compensated_sum.hpp"
#include "dpopt/accumulation/integer_grid.hpp"
#include "dpopt/accumulation/running_sum.hpp"
#include "dpopt/clipping/adaptive.hpp"
#include "dpopt/clipping/automatic.hpp"
#include "dpopt/clipping/drop_above.hpp"
#include "dpopt/clipping/flat.hpp"
#include "dpopt/clipping/norm_quantiles.hpp"
#include "dpopt/clipping/per_group.hpp"
#include "dpopt/clipping/per_layer.hpp"
#include "dpopt/clipping/psac.hpp"
#include "dpopt/clipping/scheduled.hpp"
#include "dpopt/clipping/unit_norm.hpp"
#include "dpopt/dp_optimizer/contributions.hpp"
#include "dpopt/gradients/bias.hpp"
#include "dpopt/gradients/callback.hpp"
#include "dpopt/gradients/convolution_weight.hpp"
#include "dpopt/gradients/embedding.hpp"
#include "dpopt/gradients/half.hpp"
#include "dpopt/gradients/linear_sequence.hpp"
#include "dpopt/gradients/linear_weight.hpp"
#include "dpopt/gradients/materialized.hpp"
#include "dpopt/gradients/normalization_weight.hpp"
#include "dpopt/gradients/preconditioned.hpp"
#include "dpopt/gradients/tied.hpp"
#include "dpopt/gradients/tied_embedding.hpp"
#include "dpopt/gradients/units.hpp"
#include "support/catch.hpp"
#include "support/clipper_promises.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <numeric>
#include <random>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

using namespace dpopt;
using namespace dpopt::test;

namespace {

using real = long double;

// ---- the model: a matrix, a scalar, nothing, a vector, and a matrix larger than a tile -----------------------------

struct shape {
  const char* name;
  isize inputs, outputs;
};
constexpr std::array shapes{shape{"a.weight", 3, 2}, shape{"a.scale", 1, 1}, shape{"b.nothing", 0, 3},
                            shape{"b.bias", 1, 4}, shape{"b.weight", 40, 15}};
constexpr isize count = std::ssize(shapes);
isize size_of(isize p) {
  return shapes[static_cast<std::size_t>(p)].inputs * shapes[static_cast<std::size_t>(p)].outputs;
}

std::vector<parameter_info> infos() {
  std::vector<parameter_info> out;
  for (isize p = 0; p < count; ++p) out.push_back({shapes[static_cast<std::size_t>(p)].name, size_of(p)});
  return out;
}

// ---- rows of the table ----------------------------------------------------------------------------------------------

struct edge {
  std::string name;
  std::vector<isize> microbatches = {7}; // samples in each
  std::function<double(isize sample, isize parameter)> magnitude = [](isize i, isize) {
    return std::ldexp(1.0, static_cast<int>(i % 7) - 4);
  };
  isize bad_parameter = -1; // where sample 2 holds one number that is not finite
  double bad_number = std::numeric_limits<double>::quiet_NaN();
  std::vector<double> weights = {}; // of all samples
  double gradient_scale = 1;
  std::vector<isize> order = {0, 1, 2, 3, 4}; // in which parameters arrive
  std::vector<isize> absent = {};             // parameters without a part in the loss
};

std::vector<edge> table() {
  const double infinite = std::numeric_limits<double>::infinity();
  const double nan = std::numeric_limits<double>::quiet_NaN();
  std::vector<edge> rows;
  const auto add = [&](const std::string& name, auto change) {
    edge e;
    e.name = name;
    change(e);
    rows.push_back(std::move(e));
  };
  add("plain", [](edge&) {});
  for (const isize p : {0, 1, 3, 4})
    for (const double bad : {nan, p % 2 == 0 ? infinite : -infinite})
      add(message("one number of parameter ", p, " is ", bad),
          [&](edge& e) { e.bad_parameter = p, e.bad_number = bad; });
  for (const int exponent : {-30, -18, 0, 18, 30})
    add(message("norms near 1e", exponent),
        [&](edge& e) { e.magnitude = [=](isize, isize) { return std::pow(10.0, exponent); }; });
  add("norms from 1e-30 to 1e30 in one batch", [](edge& e) {
    e.magnitude = [](isize i, isize p) { return std::pow(10.0, static_cast<double>(((i + 3 * p) % 7 - 3) * 10)); };
  });
  add("zero gradients", [](edge& e) { e.magnitude = [](isize, isize) { return 0.0; }; });
  add("zero in one parameter", [](edge& e) { e.magnitude = [](isize, isize p) { return p == 0 ? 0.0 : 1.0; }; });
  add("no samples", [](edge& e) { e.microbatches = {0}; });
  add("one sample", [](edge& e) { e.microbatches = {1}; });
  add("padding over a number that is none", [&](edge& e) { e.bad_parameter = 4, e.weights = {1, 1, 0, 1, 1, 0, 1}; });
  add("everything is padding", [&](edge& e) { e.bad_parameter = 0, e.weights.assign(7, 0.0); });
  add("weights of samples", [](edge& e) { e.weights = {0.5, 2, -1, 0, 1e-3, 1e3, 1}; });
  add("weights that are none", [&](edge& e) { e.weights = {nan, infinite, 1, 1, -infinite, 1, 1}; });
  add("a loss scale", [](edge& e) {
    e.gradient_scale = 1.0 / 1024, e.magnitude = [](isize i, isize) { return 100.0 + 1000 * static_cast<double>(i); };
  });
  add("a mean loss", [](edge& e) { e.gradient_scale = 7, e.weights = {1, 1, 1, 1, 0.5, 1, 1}; });
  add("a negative scale", [](edge& e) { e.gradient_scale = -3; });
  add("uneven microbatches", [](edge& e) { e.microbatches = {3, 0, 1, 3}; });
  add("uneven microbatches with a mask", [&](edge& e) {
    e.microbatches = {2, 4, 1};
    e.bad_parameter = 3;
    e.weights = {1, 0.5, 0, 1, 0, 1, 2};
  });
  for (const std::vector<isize>& order : {std::vector<isize>{4, 3, 2, 1, 0}, {2, 0, 4, 1, 3}, {3, 4, 0, 2, 1}})
    add(message("arriving ", order[0], order[1], order[2], order[3], order[4]), [&](edge& e) { e.order = order; });
  add("an unused branch", [](edge& e) { e.order = {4, 3, 0}, e.absent = {1, 2}; });
  return rows;
}

// ---- sources: the same data, as each kind of source holds it ------------------------------------------------------

const std::array kinds{"materialized float",
                       "materialized double",
                       "strided",
                       "bfloat16",
                       "float16",
                       "linear weight",
                       "callback",
                       "random by sample",
                       "units of one",
                       "units of linear",
                       "tied",
                       "preconditioned",
                       "embedding",
                       "convolution",
                       "bias",
                       "normalization",
                       "sequence",
                       "tied embedding",
                       "strided linear",
                       "depthwise"};
const std::array kinds_of_one_position{"convolution of one", "bias of one", "normalization of one", "sequence of one",
                                       "depthwise of one"};

// One parameter's samples in one microbatch. Owns what the source views, and what the numbers it holds mean.
struct holding {
  isize batch = 0;
  shape of{};
  std::vector<float> narrow, a, e, strided;
  std::vector<double> wide, half_of_tied, divisors;
  std::vector<bfloat16> brain;
  std::vector<float16> half;
  std::vector<float> two_positions, scale_of_positions,
      looked_up; // of two positions a sample; and of tokens
  std::vector<std::int32_t> tokens;
  std::vector<double> inputs_of_two, gradients_of_two;     // of convolutions, in double: in float the norm has a margin
  std::vector<double> sequence_inputs, sequence_gradients; // the convolution's, position by position
  std::vector<double> wide_a, wide_e, wide_looked_up;      // of a tied embedding, likewise
  std::vector<double> wide_positions, wide_scales;         // of a depthwise convolution
  std::vector<float> apart_a, apart_e;                     // the last sample first, with gaps between them
  std::vector<isize> offsets;
  std::function<void(isize, double*)> write;
  std::vector<std::vector<real>> rows; // what it means

  [[nodiscard]] isize size() const { return of.inputs * of.outputs; }

  // Writes numbers down as `kind` does, and reads back what they mean.
  void fill(const std::string& kind, const edge& row, isize p, isize first_sample, isize samples) {
    batch = samples;
    of = shapes[static_cast<std::size_t>(p)];
    const auto n = static_cast<std::size_t>(size());
    offsets.resize(static_cast<std::size_t>(samples) + 1);
    std::iota(offsets.begin(), offsets.end(), isize{0});
    for (isize i = 0; i < samples; ++i) {
      const isize sample = first_sample + i;
      std::mt19937_64 engine(static_cast<std::uint64_t>(sample * 10 + p));
      const auto next = [&] { return static_cast<double>(engine() >> 11) * 0x1p-52 - 1; };
      const double root =
          std::sqrt(row.magnitude(sample, p) / std::sqrt(static_cast<double>(std::max<isize>(1, size()))));
      const bool bad = sample == 2 && p == row.bad_parameter;
      for (isize k = 0; k < of.inputs; ++k) a.push_back(static_cast<float>(root * next()));
      for (isize o = 0; o < of.outputs; ++o)
        e.push_back(static_cast<float>(bad && o == 0 ? row.bad_number : root * next()));
      for (isize k = 0; k < size(); ++k) {
        const double product = static_cast<double>(e[e.size() - static_cast<std::size_t>(of.outputs - k / of.inputs)]) *
                               static_cast<double>(a[a.size() - static_cast<std::size_t>(of.inputs - k % of.inputs)]);
        const bool spoiled = bad && k == size() / 2; // one coordinate alone
        const double number = bad && !std::isfinite(product) ? 0.25 : product;
        wide.push_back(spoiled ? row.bad_number : number);
      }
    }
    for (std::size_t k = 0; k < wide.size(); ++k) {
      narrow.push_back(static_cast<float>(wide[k]));
      brain.push_back(bfloat16(wide[k]));
      half.push_back(float16(wide[k]));
      half_of_tied.push_back(-0.75 * (std::isfinite(wide[k]) ? wide[k] : 1.0));
    }
    for (isize i = 0; i < samples; ++i) {
      for (std::size_t k = 0; k < n; ++k) strided.push_back(narrow[static_cast<std::size_t>(i) * n + k]);
      strided.insert(strided.end(), 3, std::numeric_limits<float>::quiet_NaN()); // between rows
    }
    for (std::size_t k = 0; k < n; ++k) divisors.push_back(k % 3 == 0 ? 0.0 : k % 3 == 1 ? 0.5 : 4.0);
    if (kind == "random by sample")
      write = [seed = first_sample * 1000 + p, n, scale = row.magnitude(first_sample, p)](isize i, double* g) {
        std::mt19937_64 engine(static_cast<std::uint64_t>(seed + 7 * i));
        for (std::size_t k = 0; k < n; ++k) g[k] = scale * (static_cast<double>(engine() >> 11) * 0x1p-52 - 1);
      };
    else
      write = [this, n](isize i, double* g) {
        for (std::size_t k = 0; k < n; ++k) g[k] = static_cast<double>(narrow[static_cast<std::size_t>(i) * n + k]);
      };
    lay_out_positions(n);
    mean(kind, n);
  }

  // Two positions: channels first for convolutions (e a + e/4 (-a/2) = 7/8 e a), sums (g - g/2), and rows of tokens, of
  // which the first comes twice (g/4 more) beside padding that is not a number.
  void lay_out_positions(std::size_t n) {
    for (const double x : a) inputs_of_two.insert(inputs_of_two.end(), {x, -x / 2});
    for (const double x : e) gradients_of_two.insert(gradients_of_two.end(), {x, x / 4});
    const auto two_rows = [](const std::vector<float>& from, isize width, double second, std::vector<double>& to) {
      for (std::size_t i = 0; i < from.size(); i += static_cast<std::size_t>(width))
        for (const double factor : {1.0, second})
          for (std::size_t k = 0; k < static_cast<std::size_t>(width); ++k)
            to.push_back(factor * static_cast<double>(from[i + k]));
    };
    wide_a.assign(a.begin(), a.end());
    wide_e.assign(e.begin(), e.end());
    if (of.inputs > 0) two_rows(a, of.inputs, -0.5, sequence_inputs);
    two_rows(e, of.outputs, 0.25, sequence_gradients);
    for (const float x : narrow) two_positions.insert(two_positions.end(), {x, x / -2});
    for (std::size_t k = 0; k < narrow.size(); ++k) scale_of_positions.insert(scale_of_positions.end(), {2, -1});
    wide_positions.assign(two_positions.begin(), two_positions.end());
    wide_scales.assign(scale_of_positions.begin(), scale_of_positions.end());
    const auto reverse = [this](const std::vector<float>& from, isize width, isize gap, std::vector<float>& to) {
      for (isize i = batch - 1; i >= 0; --i) {
        to.insert(to.end(), from.begin() + i * width, from.begin() + (i + 1) * width);
        to.insert(to.end(), static_cast<std::size_t>(gap), std::numeric_limits<float>::quiet_NaN());
      }
    };
    reverse(a, of.inputs, 2, apart_a);
    reverse(e, of.outputs, 1, apart_e);
    const auto dimension = static_cast<std::size_t>(of.inputs);
    for (std::size_t i = 0; i < static_cast<std::size_t>(batch); ++i) {
      for (isize v = 0; v < of.outputs; ++v) tokens.push_back(static_cast<std::int32_t>(v));
      tokens.insert(tokens.end(), {-1, 0});
      const auto first = narrow.begin() + static_cast<std::ptrdiff_t>(i * n);
      looked_up.insert(looked_up.end(), first, first + static_cast<std::ptrdiff_t>(n));
      looked_up.insert(looked_up.end(), dimension, std::numeric_limits<float>::quiet_NaN());
      for (std::size_t k = 0; k < dimension; ++k) looked_up.push_back(narrow[i * n + k] / 4);
    }
    wide_looked_up.assign(looked_up.begin(), looked_up.end());
  }

  void mean(const std::string& kind, std::size_t n) {
    std::vector<double> g(n);
    for (std::size_t i = 0; i < static_cast<std::size_t>(batch); ++i) {
      auto& row = rows.emplace_back();
      if (kind == "random by sample") write(static_cast<isize>(i), g.data());
      for (std::size_t k = 0; k < n; ++k) {
        const std::size_t at = i * n + k;
        const real product = outer(i, k);
        const real alternating = at % 2 == 0 ? 2 : -1; // scale_of_positions, where there is one
        row.push_back(kind == "materialized double"                               ? static_cast<real>(wide[at])
                      : kind == "convolution of one" || kind == "sequence of one" ? product
                      : kind == "normalization of one" ? static_cast<real>(narrow[at]) * alternating
                      : kind == "depthwise of one"     ? static_cast<real>(wide[at]) * alternating
                      : kind == "bfloat16"             ? static_cast<real>(brain[at])
                      : kind == "float16"              ? static_cast<real>(half[at])
                      : kind == "random by sample"     ? static_cast<real>(g[k])
                      : kind == "linear weight" || kind == "units of linear" || kind == "strided linear" ? product
                      : kind == "convolution" || kind == "sequence"    ? 0.875L * product
                      : kind == "bias"                                 ? 0.5L * static_cast<real>(narrow[at])
                      : kind == "normalization" || kind == "depthwise" ? static_cast<real>(narrow[at]) * 2.5L
                      : kind == "embedding" || kind == "tied embedding"
                          ? (kind == "embedding" ? 0 : product) +
                                static_cast<real>(narrow[at]) * (k < static_cast<std::size_t>(of.inputs) ? 1.25L : 1.0L)
                      : kind == "tied" ? product + static_cast<real>(half_of_tied[at])
                      : kind == "preconditioned"
                          ? static_cast<real>(wide[at]) / static_cast<real>(divisors[k] == 0 ? 1 : divisors[k])
                          : static_cast<real>(narrow[at]));
      }
    }
  }
  [[nodiscard]] real outer(std::size_t i, std::size_t k) const {
    const auto in = static_cast<std::size_t>(of.inputs);
    const auto out = static_cast<std::size_t>(of.outputs);
    return static_cast<real>(e[i * out + k / in]) * static_cast<real>(a[i * in + k % in]);
  }

  template <class A>
  [[nodiscard]] deferred_source<A> source(const std::string& kind) {
    const linear_weight<float> linear{a.data(), e.data(), batch, of.inputs, of.outputs};
    const materialized<float> floats(narrow.data(), batch, size());
    const materialized<double> doubles(wide.data(), batch, size());
    if (kind == "materialized double") return deferred_source<A>(doubles);
    if (kind == "strided") return deferred_source<A>(materialized<float>(strided.data(), batch, size(), size() + 3));
    if (kind == "bfloat16") return deferred_source<A>(materialized<bfloat16>(brain.data(), batch, size()));
    if (kind == "float16") return deferred_source<A>(materialized<float16>(half.data(), batch, size()));
    const auto layout = channel_layout::channels_first(batch, size(), 2);
    if (kind == "bias") return deferred_source<A>(bias(two_positions.data(), layout));
    if (kind == "normalization")
      return deferred_source<A>(normalization_weight(scale_of_positions.data(), two_positions.data(), layout));
    if (kind == "embedding")
      return deferred_source<A>(
          embedding<float>(tokens.data(), looked_up.data(), batch, of.outputs + 2, of.outputs, of.inputs, -1));
    const auto dense = [this](std::int32_t positions) {
      return convolution_geometry{.input_channels = static_cast<std::int32_t>(of.inputs),
                                  .output_channels = static_cast<std::int32_t>(of.outputs),
                                  .input_size = {positions},
                                  .kernel_size = {1}};
    };
    const auto depthwise = [this](std::int32_t positions) {
      const auto channels = static_cast<std::int32_t>(size());
      return convolution_geometry{.input_channels = channels,
                                  .output_channels = channels,
                                  .input_size = {positions},
                                  .kernel_size = {1},
                                  .groups = channels};
    };
    if (kind == "convolution" && of.inputs > 0)
      return deferred_source<A>(
          convolution_weight<double>(inputs_of_two.data(), gradients_of_two.data(), batch, dense(2)));
    if (kind == "convolution of one" && of.inputs > 0)
      return deferred_source<A>(convolution_weight<double>(wide_a.data(), wide_e.data(), batch, dense(1)));
    const auto layout_of_one = channel_layout::channels_first(batch, size(), 1);
    if (kind == "bias of one") return deferred_source<A>(bias(narrow.data(), layout_of_one));
    if (kind == "normalization of one")
      return deferred_source<A>(normalization_weight(scale_of_positions.data(), narrow.data(), layout_of_one));
    if (kind == "sequence of one")
      return deferred_source<A>(linear_sequence<double>{wide_a.data(), wide_e.data(), batch, 1, of.inputs, of.outputs});
    if (kind == "depthwise of one" && size() > 0)
      return deferred_source<A>(convolution_weight<double>(wide_scales.data(), wide.data(), batch, depthwise(1)));
    if (kind == "sequence")
      return deferred_source<A>(
          linear_sequence<double>{sequence_inputs.data(), sequence_gradients.data(), batch, 2, of.inputs, of.outputs});
    if (kind == "tied embedding")
      return deferred_source<A>(tied_embedding<double>{tokens.data(), wide_looked_up.data(), wide_a.data(),
                                                       wide_e.data(), batch, of.outputs + 2, 1, of.outputs, of.inputs,
                                                       -1});
    if (kind == "depthwise" && size() > 0)
      return deferred_source<A>(
          convolution_weight<double>(wide_scales.data(), wide_positions.data(), batch, depthwise(2)));
    if (kind == "strided linear") {
      const isize width = of.inputs + 2, height = of.outputs + 1, last = std::max<isize>(0, batch - 1);
      return deferred_source<A>(linear_weight<float>{apart_a.data() + last * width, apart_e.data() + last * height,
                                                     batch, of.inputs, of.outputs, -width, -height});
    }
    if (kind == "linear weight") return deferred_source<A>(linear);
    if (kind == "callback" || kind == "random by sample") return deferred_source<A>(callback(write, batch, size()));
    if (kind == "units of one") return deferred_source<A>(units(floats, offsets));
    if (kind == "units of linear") return deferred_source<A>(units(linear, offsets));
    if (kind == "tied")
      return deferred_source<A>(tied{linear, materialized<double>(half_of_tied.data(), batch, size())});
    if (kind == "preconditioned") return deferred_source<A>(preconditioned(doubles, std::span<const double>(divisors)));
    return deferred_source<A>(floats);
  }
};

// ---- clippers: each beside its definition ---------------------------------------------------------------------------

struct strategy {
  std::string name;
  std::function<any_clipper()> make;
  std::array<isize, count> group; // of each parameter
  std::function<real(real norm, isize group)> factor;
};

std::vector<strategy> strategies() {
  const std::array<isize, count> together{}, apart{0, 1, 2, 3, 4}, blocks{0, 0, 1, 1, 1};
  const auto bound_of = [](isize g) { return 0.9L / static_cast<real>(1 + g); };
  const std::vector<double> bounds{0.9, 0.9 / 2, 0.9 / 3, 0.9 / 4, 0.9 / 5};
  const auto usual = [](real bound, real norm) { return std::min(1.0L, bound / (norm + 1e-6L)); };
  const auto layers = [bounds] { return per_layer{bounds}; };
  const auto groups = [bounds] { return per_group{{"a", {"a.*"}, bounds[0]}, {"b", {"b.*"}, bounds[1]}}; };
  const double joint = std::sqrt(0.81 * (1 + 1.0 / 4 + 1.0 / 9 + 1.0 / 16 + 1.0 / 25));
  return {
      {"flat", [] { return any_clipper(flat{0.9}); }, together, [=](real n, isize) { return usual(0.9L, n); }},
      {"per layer", [=] { return any_clipper(layers()); }, apart,
       [=](real n, isize g) { return usual(bound_of(g), n); }},
      {"per group", [=] { return any_clipper(groups()); }, blocks,
       [=](real n, isize g) { return usual(bound_of(g), n); }},
      {"automatic",
       [=] {
         return any_clipper(automatic{layers(), 0.01});
       },
       apart, [=](real n, isize g) { return bound_of(g) / (n + 0.01L); }},
      {"automatic, flat",
       [] {
         return any_clipper(automatic{flat{0.9}, 0.01});
       },
       together, [](real n, isize) { return 0.9L / (n + 0.01L); }},
      {"psac",
       [=] {
         return any_clipper(psac{groups(), 0.1});
       },
       blocks, [=](real n, isize g) { return bound_of(g) / (n + 0.1L / (n + 0.1L)); }},
      {"drop above",
       [] {
         return any_clipper(drop_above{flat{0.9}, 3.0});
       },
       together, [](real n, isize) { return n <= 2.7L ? 1 / 3.0L : 0.0L; }},
      {"unit norm", [=] { return any_clipper(unit_norm{layers()}); }, apart,
       [=](real n, isize g) { return usual(bound_of(g), n) / static_cast<real>(joint); }},
  };
}

// ---- the oracle and the comparison ----------------------------------------------------------------------------------

constexpr std::uint64_t released_steps = 2; // as clippers on a schedule are told

using data = std::vector<std::array<holding, count>>; // by microbatch

bool is_absent(const edge& row, isize p) { return std::ranges::find(row.absent, p) != row.absent.end(); }

// By its definition; magnitudes[k] is the sum of what was added in magnitude, to which roundings are relative. Calls
// seen(group, norm) for whatever a clipper that learns counts.
void expected_sum(
    const edge& row, const data& held, const strategy& how, std::vector<real>& sums, std::vector<real>& magnitudes,
    const std::function<void(isize group, real norm)>& seen = [](isize, real) {}) {
  isize first_sample = 0;
  for (const auto& part : held) {
    for (isize i = 0; i < part[0].batch; ++i) {
      const double w =
          row.gradient_scale * (row.weights.empty() ? 1 : row.weights[static_cast<std::size_t>(first_sample + i)]);
      if (w == 0) continue;
      std::array<real, count> squares{};
      for (isize p = 0; p < count; ++p)
        if (!is_absent(row, p))
          for (const real g : part[static_cast<std::size_t>(p)].rows[static_cast<std::size_t>(i)])
            squares[static_cast<std::size_t>(how.group[static_cast<std::size_t>(p)])] += g * g;
      for (isize g = 0; g <= how.group.back(); ++g) {
        const real norm = std::sqrt(squares[static_cast<std::size_t>(g)]) * std::abs(static_cast<real>(w));
        if (std::isfinite(norm)) seen(g, norm);
      }
      isize at = 0;
      for (isize p = 0; p < count; ++p) {
        const isize g = how.group[static_cast<std::size_t>(p)];
        const real norm = std::sqrt(squares[static_cast<std::size_t>(g)]) * std::abs(static_cast<real>(w));
        const real factor = std::isfinite(norm) ? how.factor(norm, g) * static_cast<real>(w) : 0;
        for (isize k = 0; k < size_of(p); ++k, ++at) {
          if (factor == 0 || is_absent(row, p)) continue;
          const real term =
              factor * part[static_cast<std::size_t>(p)].rows[static_cast<std::size_t>(i)][static_cast<std::size_t>(k)];
          sums[static_cast<std::size_t>(at)] += term;
          magnitudes[static_cast<std::size_t>(at)] += std::abs(term);
        }
      }
    }
    first_sample += part[0].batch;
  }
}

// Empty when the accumulator holds the oracle's sums, and the clipper's counts are `counted`, else the first
// difference. Norms are upper bounds, too large by as much as 600 roundings, hence the tolerance; on the grid each
// number is off by less than a unit a sample.
template <class A, class C>
std::string difference_of(const edge& row, data& held, const std::string& kind, const C& clipper,
                          const std::vector<real>& sums, const std::vector<real>& magnitudes, double tolerance,
                          const std::vector<double>& counted) {
  isize total = 0;
  std::vector<isize> offsets;
  const std::vector<parameter_info> parameters = infos();
  for (const auto& p : parameters) {
    offsets.push_back(total);
    total += p.size;
  }
  contributions<C, A> ours(clipper, A{});
  ours.bind(parameters, offsets);
  if constexpr (FollowsSteps<C>) ours.clipper().start_step(released_steps);
  isize first_sample = 0;
  const auto ignore = [](isize) {};
  for (auto& part : held) {
    const double* weights = row.weights.empty() ? nullptr : row.weights.data() + first_sample;
    ours.begin({.samples = part[0].batch, .gradient_scale = row.gradient_scale, .weights = weights});
    for (const isize p : row.order) ours.add(p, part[static_cast<std::size_t>(p)].template source<A>(kind), ignore);
    for (const isize p : row.absent) ours.add_absent(p, ignore);
    first_sample += part[0].batch;
  }
  ours.seal(0, total);
  for (isize k = 0; k < total; ++k) {
    const auto at = static_cast<std::size_t>(k);
    const real got = static_cast<real>(ours.sum().data()[k]) * static_cast<real>(ours.sum().unit());
    const real allowed = tolerance * magnitudes[at] + (ours.sum().unit() < 1 ? 8 * ours.sum().unit() : 1e-44);
    if (!(std::abs(got - sums[at]) <= allowed))
      return message(": element ", k, " is ", static_cast<double>(got), ", not ", static_cast<double>(sums[at]), "\n");
  }
  if (!std::ranges::equal(ours.side(), counted)) return ": the counts differ\n";
  return {};
}

template <class... Accumulators, class C>
void check_edge(const edge& row, data& held, const std::string& kind, const std::string& name, const C& clipper,
                const std::vector<real>& sums, const std::vector<real>& magnitudes,
                const std::vector<double>& counted = {}) {
  std::string all;
  const auto check = [&](const auto& a) {
    using A = std::remove_cvref_t<decltype(a)>;
    const double tolerance = std::same_as<typename A::value_type, float> ? 2e-6 : 1e-12;
    const std::string text = difference_of<A>(row, held, kind, clipper, sums, magnitudes, tolerance, counted);
    if (!text.empty()) all += message(kind, ", ", name, ", ", a.describe(), text);
  };
  (check(Accumulators{}), ...);
  INFO(row.name);
  if (!all.empty()) CHECK(all == "");
}

/// Each row's microbatches, as `kind` holds them.
data held_as(const std::string& kind, const edge& row) {
  data held(row.microbatches.size());
  isize first_sample = 0;
  for (std::size_t m = 0; m < held.size(); ++m) {
    for (isize p = 0; p < count; ++p)
      held[m][static_cast<std::size_t>(p)].fill(kind, row, p, first_sample, row.microbatches[m]);
    first_sample += row.microbatches[m];
  }
  return held;
}

} // namespace

TEST_CASE("edges: every edge case, source, clipper and accumulator gives the sum of the definition", "[one thread]") {
  const std::vector<strategy> clippers = strategies();
  const auto check = [](const edge& row, const std::string& kind, std::span<const strategy> hows) {
    data held = held_as(kind, row);
    for (const strategy& how : hows) {
      std::vector<real> sums(static_cast<std::size_t>(612), 0), magnitudes = sums;
      expected_sum(row, held, how, sums, magnitudes);
      check_edge<running_sum<float>, running_sum<double>, compensated_sum<float>, compensated_sum<double>,
                 integer_grid>(row, held, kind, how.name, how.make(), sums, magnitudes);
    }
  };
  for (const edge& row : table()) {
    for (const char* const kind : kinds) check(row, kind, clippers);
    for (const char* const kind : kinds_of_one_position) check(row, kind, std::span(clippers).first(2));
  }
  SUCCEED("the table is through");
}

TEST_CASE("edges: clippers that learn or follow a schedule give the sum and the counts of the definition",
          "[one thread]") {
  const auto usual = [](real bound, real norm) { return std::min(1.0L, bound / (norm + 1e-6L)); };
  const std::array<double, 2> bounds{0.9, 0.4};
  const std::array<double, 3> edges{0.03, 0.7, 50};
  const norm_quantiles learning{
      adaptive{per_group{{"a", {"a.*"}, bounds[0]}, {"b", {"b.*"}, bounds[1]}},
               {.count_noise_std = 9, .expected_batch_size = 7, .greatest_bound = 4}},
      {.edges = {edges.begin(), edges.end()}, .count_noise_std = 9}}; // alike: a unit adds 1 to its cell
  const strategy by_groups{"norm quantiles of adaptive", {}, {0, 0, 1, 1, 1}, [&](real n, isize g) {
                             return usual(static_cast<real>(bounds[static_cast<std::size_t>(g)]), n);
                           }};
  const scheduled halved{per_layer{0.8}, exponential_decay{0.5}};
  const strategy by_layers{"scheduled", {}, {0, 1, 2, 3, 4}, [&](real n, isize) {
                             return usual(0.8L / static_cast<real>(1 << released_steps), n);
                           }};
  for (const edge& row : table())
    for (const char* const kind : kinds) {
      data held = held_as(kind, row);
      std::vector<real> sums(static_cast<std::size_t>(612), 0), magnitudes = sums;
      std::vector<double> counted(2 + 2 * (edges.size() + 1)); // a bit a group, then a histogram a group
      expected_sum(row, held, by_groups, sums, magnitudes, [&](isize group, real norm) {
        const auto g = static_cast<std::size_t>(group);
        counted[g] += norm <= static_cast<real>(bounds[g]) ? 0.5 : -0.5;
        std::size_t cell = 0;
        while (cell < edges.size() && norm > static_cast<real>(edges[cell])) ++cell;
        ++counted[2 + g * (edges.size() + 1) + cell];
      });
      check_edge<running_sum<double>, integer_grid>(row, held, kind, by_groups.name, learning, sums, magnitudes,
                                                    counted);
      std::ranges::fill(sums, 0);
      std::ranges::fill(magnitudes, 0);
      expected_sum(row, held, by_layers, sums, magnitudes);
      check_edge<running_sum<double>, integer_grid>(row, held, kind, by_layers.name, halved, sums, magnitudes);
    }
  SUCCEED("the table is through");
}
