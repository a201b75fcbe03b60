// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Replays a recorded Opacus run through an optimizer of the library, in one of several ways that must not matter, and
/// measures how far every released gradient, sum and parameter is from the record.
#pragma once

#include "dpopt/clipping/per_layer.hpp"
#include "dpopt/core/types.hpp"
#include "dpopt/dp_optimizer/dp_optimizer.hpp"
#include "dpopt/gradients/materialized.hpp"
#include "dpopt/parameters/parameter_view.hpp"
#include "support/golden_case.hpp"
#include "support/golden_optimizers.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <functional>
#include <limits>
#include <map>
#include <memory>
#include <numeric>
#include <random>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

namespace dpopt::testing {

enum class arrival { forward, reverse, shuffled };

/// What a trainer is free to choose.
struct replay_style {
  const char* name;
  arrival order = arrival::forward; ///< of the parameters' gradients; shuffled differs by rank and microbatch
  bool skip_steps = false;          ///< mode virtual by signal_skip_step() instead of .last
  bool pre_step_first = false;      ///< pre_step() then step(), else step() alone, which is the fused pass
  bool gradient_arrays = true;      ///< the trainer has arrays for the released gradients
  isize bucket_elements = 1 << 20;
};

inline constexpr std::array<replay_style, 4> replay_styles{{
    {.name = "in order, one step() call"},
    {.name = "reverse, pre_step(), no arrays, a bucket a parameter",
     .order = arrival::reverse,
     .pre_step_first = true,
     .gradient_arrays = false,
     .bucket_elements = 1},
    {.name = "shuffled, skipped steps, pre_step()",
     .order = arrival::shuffled,
     .skip_steps = true,
     .pre_step_first = true,
     .bucket_elements = 7},
    {.name = "shuffled, skipped steps, one step() call",
     .order = arrival::shuffled,
     .skip_steps = true,
     .bucket_elements = 4},
}};

/// Largest relative differences to the record, and how often a count was wrong.
struct deviation {
  double gradient = 0;
  double sum = 0; ///< released gradient x divisor against summed_grad, where world is 1
  double params = 0;
  isize wrong_iterations = 0;
  isize wrong_answers = 0; ///< step() or pre_step() returned true for a skipped step or false for a real one
  isize compared = 0;      ///< numbers looked at

  void merge(const deviation& other) {
    gradient = std::max(gradient, other.gradient);
    sum = std::max(sum, other.sum);
    params = std::max(params, other.params);
    wrong_iterations += other.wrong_iterations;
    wrong_answers += other.wrong_answers;
    compared += other.compared;
  }
};

/// Largest |a - b| / max(|b|, floor), infinity for what is not a number.
template <class Range>
double worst_difference(const Range& a, const numbers& b, const numbers& floors, double scale = 1) {
  if (std::size(a) != b.size()) return std::numeric_limits<double>::infinity();
  double worst = 0;
  for (std::size_t i = 0; i < b.size(); ++i) {
    const double floor = std::max(floors[i], std::numeric_limits<double>::min());
    const double d = std::abs(static_cast<double>(a[i]) * scale - b[i]) / std::max(std::abs(b[i]), floor);
    worst = d <= worst ? worst : std::isnan(d) ? std::numeric_limits<double>::infinity() : d;
  }
  return worst;
}

/// For each element, 1 % of the sum over all samples of the absolute values that were added up at step s. A sum that is
/// smaller than this has cancelled: it carries the rounding of its terms, which is what it is then compared to.
inline per_parameter floors_of_sums(const golden_case& c, std::size_t s) {
  per_parameter out;
  for (std::size_t p = 0; p < c.shapes.size(); ++p) out.emplace_back(static_cast<std::size_t>(c.size(p)), 0.0);
  for (std::size_t r = 0; r < c.ranks.size(); ++r)
    for (const per_parameter& part : c.ranks[r].grad_samples[s])
      for (std::size_t i = 0; i < static_cast<std::size_t>(c.batch[r]); ++i) {
        numbers norms(c.shapes.size(), 0.0); // squared, then of the group
        for (std::size_t p = 0; p < out.size(); ++p)
          for (std::size_t k = 0; k < out[p].size(); ++k) norms[p] += std::pow(part[p][i * out[p].size() + k], 2);
        const double all = std::accumulate(norms.begin(), norms.end(), 0.0);
        for (std::size_t p = 0; p < out.size(); ++p) {
          const bool one_norm = c.kind == "flat";
          const double bound = c.max_grad_norm[one_norm ? 0 : p];
          const double factor = std::min(1.0, bound / (std::sqrt(one_norm ? all : norms[p]) + 1e-6));
          for (std::size_t k = 0; k < out[p].size(); ++k)
            out[p][k] += 0.01 * factor * std::abs(part[p][i * out[p].size() + k]);
        }
      }
  return out;
}

/// For parameters, which are of one order of magnitude: 1 % of the largest of the model.
inline double floor_of_values(const per_parameter& values) {
  double largest = 0;
  for (const numbers& v : values)
    for (const double x : v) largest = std::max(largest, std::abs(x));
  return 0.01 * largest;
}

/// Any of torch's optimizers behind one type, as a whole-parameter optimizer: one composition serves all of them.
template <class T>
struct any_optimizer {
  std::function<void(parameter_update<T>)> call;
  void operator()(parameter_update<T> u) { call(u); }
};

template <class T>
any_optimizer<T> make_any_optimizer(const nlohmann::json& json) {
  any_optimizer<T> out;
  with_optimizer(json, [&](const auto& base) {
    constexpr std::size_t slots = std::remove_cvref_t<decltype(base)>::slots;
    const auto state = std::make_shared<std::map<isize, std::array<std::vector<T>, slots>>>();
    out.call = [base, state](parameter_update<T> u) {
      std::array<T*, slots> pointers{};
      auto& arrays = (*state)[u.parameter];
      for (std::size_t s = 0; s < slots; ++s) {
        arrays[s].resize(u.value.size());
        pointers[s] = arrays[s].data();
      }
      base.at(u.step).update(u.value.data(), u.gradient.data(), pointers, static_cast<isize>(u.value.size()));
    };
  });
  return out;
}

/// Runs one rank of a case. `make(views, other)` gives the optimizer; `other` are the options of the style.
/// Inputs and released gradients are overwritten with NaN as soon as the contract allows: nothing may alias them.
template <class T, class Make>
deviation replay(const golden_case& c, std::size_t rank, const replay_style& style, Make make) {
  constexpr T poison = std::numeric_limits<T>::quiet_NaN();
  const std::size_t count = c.shapes.size();
  std::vector<std::string> names;
  std::vector<std::vector<T>> values, gradients(count);
  for (std::size_t p = 0; p < count; ++p) {
    names.push_back("parameter " + std::to_string(p));
    values.emplace_back(c.initial_params[p].begin(), c.initial_params[p].end());
    if (style.gradient_arrays) gradients[p].assign(values[p].size(), poison);
  }
  std::vector<parameter_view<T>> views;
  for (std::size_t p = 0; p < count; ++p) views.push_back({names[p], values[p], gradients[p]});

  auto opt = make(views, dp_options{.bucket_elements = style.bucket_elements});
  using optimizer = decltype(opt);
  constexpr bool deferred = optimizer::schedule_type::deferred;
  constexpr bool group_is_parameter = std::is_same_v<typename optimizer::clipper_type, per_layer>;

  deviation out;
  std::mt19937_64 shuffle(17 * rank + 5);
  std::vector<std::size_t> order(count);
  std::iota(order.begin(), order.end(), std::size_t{0});
  if (style.order == arrival::reverse) std::reverse(order.begin(), order.end());

  for (std::size_t s = 0; s < static_cast<std::size_t>(c.steps); ++s) {
    const golden_step& recorded = c.ranks[rank].steps[s];
    std::vector<std::vector<T>> rows(count); // of the microbatch at hand
    const auto overwrite = [&](std::vector<T>& x) { std::fill(x.begin(), x.end(), poison); };
    const isize last = c.microbatches - 1;
    const bool skipping = style.skip_steps && c.mode == "virtual";
    for (isize m = 0; m <= last; ++m) {
      if (skipping && m < last) opt.signal_skip_step();
      opt.begin({.samples = c.batch[rank], .last = skipping || m == last, .ends_batch = c.mode == "iterations"});
      if (deferred)
        for (auto& r : rows) overwrite(r); // of the microbatch before, which begin() has worked off
      if (style.order == arrival::shuffled) std::shuffle(order.begin(), order.end(), shuffle);
      std::vector<std::vector<T>> fresh(count);
      for (const std::size_t p : order) {
        const numbers& samples_of_p = c.ranks[rank].grad_samples[s][static_cast<std::size_t>(m)][p];
        fresh[p].assign(samples_of_p.begin(), samples_of_p.end());
        opt.gradient_ready(static_cast<isize>(p), materialized<T>(fresh[p].data(), c.batch[rank], c.size(p)));
        if (!deferred && group_is_parameter) overwrite(fresh[p]);
      }
      if (!deferred)
        for (auto& r : fresh) overwrite(r);
      rows = std::move(fresh); // a deferred view stays valid: moving a vector moves its buffer
      if (skipping && m < last) {
        const bool released = style.pre_step_first ? opt.pre_step() : opt.step();
        out.wrong_answers += released || !opt.last_step_skipped() ? 1 : 0;
        if (deferred)
          for (auto& r : rows) overwrite(r);
      }
    }

    bool visible = style.gradient_arrays;
    if (style.pre_step_first) {
      out.wrong_answers += opt.pre_step() ? 0 : 1;
      out.wrong_iterations += opt.accumulated_iterations() == recorded.accumulated_iterations ? 0 : 1;
      visible = true;
      for (auto& r : rows) overwrite(r);
    } else {
      out.wrong_answers += opt.step() ? 0 : 1;
    }
    const double divisor = c.reduction == loss_reduction::mean
                               ? c.expected_batch_size * static_cast<double>(recorded.accumulated_iterations * c.world)
                               : 1;
    const per_parameter of_sum = floors_of_sums(c, s);
    const double of_values = floor_of_values(recorded.params);
    for (std::size_t p = 0; visible && p < count; ++p) {
      numbers of_release = of_sum[p];
      for (double& floor : of_release) floor /= divisor;
      const auto released =
          gradients[p].empty() ? opt.released_gradient(static_cast<isize>(p)) : std::span<const T>(gradients[p]);
      out.gradient = std::max(out.gradient, worst_difference(released, recorded.grad[p], of_release));
      if (c.world == 1)
        out.sum = std::max(out.sum, worst_difference(released, recorded.summed_grad[p], of_sum[p], divisor));
      out.compared += static_cast<isize>(released.size());
    }
    if (style.pre_step_first) out.wrong_answers += opt.step() ? 0 : 1;
    out.wrong_iterations += opt.accumulated_iterations() == recorded.accumulated_iterations ? 0 : 1;
    for (std::size_t p = 0; p < count; ++p) {
      const numbers floors(values[p].size(), of_values);
      out.params = std::max(out.params, worst_difference(values[p], recorded.params[p], floors));
      out.compared += static_cast<isize>(values[p].size());
      overwrite(gradients[p]);
    }
  }
  return out;
}

} // namespace dpopt::testing
