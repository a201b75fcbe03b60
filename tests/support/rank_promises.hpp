// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// What dp_optimizer promises on several ranks. Each function is one promise, called on every rank with that rank's
/// communicator; it throws std::runtime_error when the promise is broken, so it runs on threads and under MPI alike.
/// Nothing here may throw on one rank between two collectives but what is under test: the others would wait.
#pragma once

#include "dpopt/accounting/no_accountant.hpp"
#include "dpopt/accumulation/integer_grid.hpp"
#include "dpopt/accumulation/running_sum.hpp"
#include "dpopt/communication/agreement.hpp"
#include "dpopt/communication/serial.hpp"
#include "dpopt/core/error.hpp"
#include "dpopt/dp_optimizer/per_layer_optimizers.hpp"
#include "dpopt/noise/placement.hpp"
#include "dpopt/optimizers/adam.hpp"
#include "dpopt/optimizers/sgd.hpp"
#include "support/communicator_conformance.hpp"
#include "support/toy_training.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace dpopt::test {

inline constexpr isize toy_samples = 23;
inline constexpr isize toy_steps = 3;

/// Whether all ranks hold the same bits. Collective.
template <class C, class T>
bool alike(C& comm, const std::vector<T>& x) {
  std::vector<T> of_root = x;
  detail::broadcast_now(comm, std::span(of_root), 0);
  double differs =
      x.size() == of_root.size() && std::memcmp(x.data(), of_root.data(), x.size() * sizeof(T)) == 0 ? 0 : 1;
  detail::sum_now(comm, std::span(&differs, 1));
  return differs == 0;
}

/// A composition for tests: bound 0.6, noise from a known seed, sum over 23 expected samples.
template <class T, class C, class Accumulated, class When, class Base = sgd>
auto toy_optimizer(const std::vector<parameter_view<T>>& views, C comm,
                   Base base = {.learning_rate = 0.5, .momentum = 0.9}) {
  return dp_optimizer(views, dp_options{.bucket_elements = 16}, per_layer{0.6}, Accumulated{}, std::move(comm),
                      counter_gaussian{.noise_multiplier = 0.8, .seed = 20240229},
                      expected_batch{across_ranks{double{toy_samples}}}, std::move(base), When{}, no_accountant{});
}

// ---- equality -----------------------------------------------------------------------------------------------------

/// W ranks with uneven microbatches in different orders of arrival give what one rank gives with one batch.
/// @param tolerance of the distance between runs; 0 asks for the same bits.
template <class T, class Accumulated, class When, class C>
void equals_one_rank(C comm, double tolerance) {
  const int rank = comm.rank();
  const int ranks = comm.size();
  bool same_everywhere = true;
  toy_model<T> model(toy_sizes());
  toy_result<T> several;
  {
    auto opt = toy_optimizer<T, C, Accumulated, When>(model.views(), std::move(comm));
    toy_feeder<T> feeder;
    for (isize s = 0; s < toy_steps; ++s) {
      feeder.feed(opt, s, uneven_share(toy_samples, s, rank, ranks),
                  static_cast<std::uint64_t>(100 * s + 10 * rank + 1));
      opt.step();
      several.released.push_back(model.all_gradients());
    }
    several.values = model.all_values();
    same_everywhere = alike(opt.communicator(), several.values);
  }
  const toy_result<T> one = toy_train<T>(
      toy_steps, [](const auto& views) { return toy_optimizer<T, serial, Accumulated, When>(views, serial{}); },
      [](isize) { return all_at_once(toy_samples); });
  expect(same_everywhere, "the same bits on every rank");
  const double d = distance(several, one);
  expect(d <= tolerance, "one rank and ", ranks, " ranks differ by ", d);
}

/// Placement sharded releases what replicated releases: it reduces and draws the same numbers, each on one rank.
/// @param first, second Two communicators over the same ranks. @param tolerance As above.
template <class T, class Accumulated, class C>
void sharded_equals_replicated(C first, C second, double tolerance) {
  const auto train = [](C comm, auto placement) {
    const int rank = comm.rank();
    const int ranks = comm.size();
    toy_model<T> model(toy_sizes());
    model.gradients[3].clear(); // of one parameter nobody wants to see the gradient
    auto views = model.views();
    dp_optimizer opt(views, dp_options{.bucket_elements = 16}, per_layer{0.6}, Accumulated{}, std::move(comm),
                     placement, counter_gaussian{.noise_multiplier = 0.8, .seed = 20240229},
                     expected_batch{across_ranks{double{toy_samples}}}, sgd{.learning_rate = 0.5, .momentum = 0.9},
                     no_accountant{});
    toy_feeder<T> feeder;
    toy_result<T> result;
    for (isize s = 0; s < toy_steps; ++s) {
      feeder.feed(opt, s, uneven_share(toy_samples, s, rank, ranks), static_cast<std::uint64_t>(10 * rank + 1));
      if (s == 1) opt.add_noise(); // the parts of a step, once
      opt.step();
      result.released.push_back(model.all_gradients());
    }
    result.values = model.all_values();
    return std::pair(result, alike(opt.communicator(), result.values));
  };
  const auto replica = train(std::move(first), replicated{});
  const auto parts = train(std::move(second), sharded{});
  expect(parts.second, "the same bits on every rank");
  const double d = distance(parts.first.values, replica.first.values);
  expect(d <= tolerance, "replicated and sharded differ by ", d);
  if (tolerance == 0) expect(parts.first.released == replica.first.released, "the same released gradients");
}

/// secure_mode: one key for all, drawn by the root, and another one in every run.
/// @param first, second Two communicators over the same ranks.
template <class C>
void secure_runs_agree_and_differ(C first, C second) {
  const auto run = [](C comm) {
    const int rank = comm.rank();
    const int ranks = comm.size();
    toy_model<double> model(toy_sizes());
    distributed_per_layer_optimizer opt(model.views(), sgd{.learning_rate = 0.1},
                                        {.noise_multiplier = 1.0,
                                         .max_grad_norm = 0.6,
                                         .expected_batch_size = 8,
                                         .secure_mode = true,
                                         .other = {.bucket_elements = 16}},
                                        std::move(comm), no_accountant{});
    toy_feeder<double> feeder;
    for (isize s = 0; s < toy_steps; ++s) {
      feeder.feed(opt, s, uneven_share(toy_samples, s, rank, ranks));
      opt.step();
    }
    return std::pair(model.all_values(), alike(opt.communicator(), model.all_values()));
  };
  const auto a = run(std::move(first));
  const auto b = run(std::move(second));
  expect(a.second && b.second, "the same bits on every rank in secure_mode");
  expect(distance(a.first, b.first) > 1e-6, "two secure runs differ");
}

// ---- faults ---------------------------------------------------------------------------------------------------------

/// The ways in which one rank spoils a step. Each leaves a text that the error must hold.
enum class fault {
  missing_gradient,
  wrong_batch,
  wrong_size,
  second_gradient,
  exception_in_closure,
  no_begin,
  other_iterations
};
inline constexpr std::array all_faults{fault::missing_gradient, fault::wrong_batch,          fault::wrong_size,
                                       fault::second_gradient,  fault::exception_in_closure, fault::no_begin,
                                       fault::other_iterations};
inline std::string_view text_of(fault f) {
  switch (f) {
  case fault::missing_gradient:
    return "layer 2";
  case fault::wrong_batch:
    return "gradient of 'layer 1' holds another number of samples";
  case fault::wrong_size:
    return "holds 3 elements";
  case fault::second_gradient:
    return "second gradient for 'layer 1'";
  case fault::exception_in_closure:
    return "the data loader failed";
  case fault::no_begin:
    return "step() without begin()";
  case fault::other_iterations:
    return "ranks differ in what they declared";
  }
  return "";
}

/// A step on three samples a rank; on the spoiling rank with the fault.
template <class Opt>
void spoiled_step(Opt& opt, isize step, bool spoil, fault how, toy_feeder<double>& feeder) {
  const std::vector<isize> ids{0, 1, 2};
  const std::vector<double> zeros(64, 0.0);
  const auto good = [&] { feeder.feed(opt, step, {ids}); };
  if (!spoil || how == fault::exception_in_closure) {
    opt.step([&] {
      if (!spoil) return good();
      opt.begin({.samples = 3});
      feeder.hand_over(opt, step, ids, 0, 3);
      throw std::runtime_error("the data loader failed");
    });
    return;
  }
  switch (how) {
  case fault::missing_gradient:
    opt.begin({.samples = 3});
    feeder.hand_over(opt, step, ids, 0, 2);
    break;
  case fault::wrong_batch:
    opt.begin({.samples = 3});
    opt.gradient_ready(1, materialized<double>(zeros.data(), 2, 3));
    break;
  case fault::wrong_size:
    opt.begin({.samples = 3});
    opt.gradient_ready(0, materialized<double>(zeros.data(), 3, 3));
    break;
  case fault::second_gradient:
    opt.begin({.samples = 3, .last = false});
    opt.gradient_ready(1, materialized<double>(zeros.data(), 3, 3));
    opt.gradient_ready(1, materialized<double>(zeros.data(), 3, 3));
    break;
  case fault::other_iterations:
    feeder.feed(opt, step, {ids, ids}, 0, true);
    break;
  case fault::no_begin:
  case fault::exception_in_closure:
    break;
  }
  opt.step();
}

/// A fault on one rank is the same rank_error on all, nothing of the model or of the optimizer changes, the failed
/// step is charged alike on all ranks, and the next step is as if the failed one had not been, but for its noise.
template <class When, class C>
void faults_are_shared(C comm, int spoiler, fault how) {
  const int rank = comm.rank();
  const int ranks = comm.size();
  toy_model<double> model(toy_sizes());
  const auto make = [](const auto& views, auto communicator) {
    return dp_optimizer(views, dp_options{.bucket_elements = 16}, per_layer{0.6}, std::move(communicator),
                        counter_gaussian{.noise_multiplier = 0}, expected_batch{per_rank{3}},
                        sgd{.learning_rate = 0.5, .momentum = 0.9}, When{});
  };
  auto opt = make(model.views(), std::move(comm));
  toy_feeder<double> feeder;
  const std::vector<isize> ids{0, 1, 2};
  const auto good_step = [&](isize s) {
    feeder.feed(opt, s, {ids});
    opt.step();
  };
  good_step(0);
  const std::vector<double> before = model.all_values();
  const std::size_t released = opt.accountant().history().empty() ? 0 : opt.accountant().history().front().count;

  // Collected first and judged at the end, so that no rank leaves the others alone.
  std::string text;
  int failed = -1;
  bool of_right_type = false;
  try {
    spoiled_step(opt, 1, rank == spoiler, how, feeder);
    text = "nothing was thrown";
  } catch (const rank_error& e) {
    text = e.what();
    failed = e.rank();
    of_right_type = true;
  } catch (const std::exception& e) {
    text = e.what();
    of_right_type = ranks == 1; // the error itself
  }
  const bool values_kept = model.all_values() == before;
  const std::uint64_t updates = opt.updates();
  std::size_t charged = 0;
  for (const auto& event : opt.accountant().history()) charged += event.count;
  good_step(2);
  const bool same_everywhere = alike(opt.communicator(), model.all_values());
  double charges = static_cast<double>(charged);
  const double own_charges = charges;
  detail::sum_now(opt.communicator(), std::span(&charges, 1));

  toy_model<double> expected(toy_sizes());
  {
    auto alone = make(expected.views(), serial{});
    toy_feeder<double> rows;
    for (const isize s : {0, 2}) {
      rows.feed(alone, s, {ids});
      alone.step();
    }
  }
  const bool alone_is_no_fault = how == fault::other_iterations && ranks == 1;
  if (alone_is_no_fault) return;
  expect(of_right_type, "an error of the right type, not: ", text);
  expect(text.find(text_of(how)) != std::string::npos, "the text names the cause: ", text);
  expect(ranks == 1 || failed == (how == fault::other_iterations ? 0 : spoiler), "the failed rank, not ", failed);
  expect(values_kept, "a failed step leaves the parameters as they were");
  expect(updates == 1, "a failed step does not count as an update");
  expect(same_everywhere, "the same bits on every rank after a failure");
  expect(distance(model.all_values(), expected.all_values()) < 1e-14,
         "the next step is as if the failed one had not been");
  expect(charges == own_charges * ranks, "the same charge on every rank");
  const bool nobody_began = how == fault::no_begin && ranks == 1; // then nothing was summed and nothing is charged
  expect(charged == released + (nobody_began ? 0 : 1), "what a failed step is charged: ", charged - released);
}

// ---- configuration
// ----------------------------------------------------------------------------------------------------

/// A configuration that rank `other` gets wrong; `field` is what the error must name.
struct difference {
  std::string_view field;
  std::string_view what;
};
inline constexpr std::array all_differences{
    difference{"parameters", "size"},
    difference{"parameters", "name"},
    difference{"parameters", "one more"},
    difference{"parameters", "order"},
    difference{"master type", "master type"},
    difference{"clipper", "bound"},
    difference{"clipper", "one of the bounds"},
    difference{"clipper", "flat"},
    difference{"accumulator", "accumulator"},
    difference{"noise", "multiplier"},
    difference{"noise", "no seed"},
    difference{"noise", "secure mode"},
    difference{"placement", "placement"},
    difference{"scaling", "batch size"},
    difference{"scaling", "batch size in all"},
    difference{"scaling", "reduction"},
    difference{"base optimizer", "learning rate"},
    difference{"base optimizer", "momentum"},
    difference{"base optimizer", "nesterov"},
    difference{"base optimizer", "another one"},
    difference{"schedule", "schedule"},
    difference{"neighbouring", "add_remove"},
    difference{"neighbouring", "zero_out"},
    difference{"bucket_elements", "buckets"},
    difference{"generator seed", "seed"},
    difference{"parameter values", "value"},
};

/// Constructs an optimizer, on the other rank with one difference. Collective.
template <class C>
void construct(C comm, bool other, std::string_view what) {
  const bool changed = other;
  const auto is = [&](std::string_view w) { return changed && what == w; };
  std::vector<std::string> names{"a", "b", "c"};
  std::vector<std::vector<double>> values{std::vector<double>(4), std::vector<double>(3), std::vector<double>(2)};
  if (is("value")) values[0][2] = 1e-9;
  if (is("size")) values[1].resize(5);
  if (is("name")) names[1] = "B";
  if (is("one more")) {
    names.push_back("d");
    values.emplace_back(1);
  }
  if (is("order")) {
    std::swap(names[0], names[2]);
    std::swap(values[0], values[2]);
  }
  std::vector<std::vector<float>> narrow;
  std::vector<parameter_view<double>> views;
  std::vector<parameter_view<float>> narrow_views;
  for (std::size_t p = 0; p < names.size(); ++p) {
    views.push_back({names[p], values[p]});
    narrow.emplace_back(values[p].size());
  }
  for (std::size_t p = 0; p < names.size(); ++p) narrow_views.push_back({names[p], narrow[p]});

  dp_options other_options{.bucket_elements = is("buckets") ? 3 : 4};
  other_options.relation = is("add_remove") ? neighbouring::add_remove
                           : is("zero_out") ? neighbouring::zero_out
                                            : neighbouring::replace_one;
  const sgd base{.learning_rate = is("learning rate") ? 0.2 : 0.1,
                 .momentum = is("momentum") ? 0.8 : 0.9,
                 .nesterov = is("nesterov")};
  per_layer_options options{.noise_multiplier = is("multiplier") ? 1.0000001 : 1.0,
                            .max_grad_norm = is("bound") ? 0.51 : 0.5,
                            .expected_batch_size = is("batch size") ? 9.0 : 8.0,
                            .loss_reduction = is("reduction") ? loss_reduction::sum : loss_reduction::mean,
                            .other = other_options};
  if (is("one of the bounds")) options.max_grad_norm = {0.5, 0.5, 0.6};
  if (is("batch size in all")) options.expected_batch_size = across_ranks{8};
  options.secure_mode = is("secure mode");
  if (!is("no seed") && !is("secure mode")) options.generator = philox_generator{is("seed") ? 2u : 1u};

  const seed_gaussian noise{.noise_multiplier = 1.0, .generator_seed = 1};
  const expected_batch scaling{8.0};
  // What differs in type is a composition of its own.
  if (is("master type")) distributed_per_layer_optimizer(narrow_views, base, options, std::move(comm));
  else if (is("schedule")) simple_distributed_per_layer_optimizer(views, base, options, std::move(comm));
  else if (is("another one"))
    distributed_per_layer_optimizer(views, adam{.learning_rate = 0.1}, options, std::move(comm));
  else if (is("flat")) dp_optimizer(views, other_options, flat{0.5}, std::move(comm), noise, scaling, base);
  else if (is("accumulator"))
    dp_optimizer(views, other_options, per_layer{0.5}, integer_grid{}, std::move(comm), noise, scaling, base);
  else if (is("placement"))
    dp_optimizer(views, other_options, per_layer{0.5}, root_before_reduction{}, std::move(comm), noise, scaling, base);
  else distributed_per_layer_optimizer(views, base, options, std::move(comm));
}

/// Every rank throws the same invalid_argument, which names the field and the ranks that differ.
template <class C>
void differing_configuration_is_refused(C comm, int other, const difference& d) {
  const int rank = comm.rank();
  const int ranks = comm.size();
  if (ranks == 1) return construct(std::move(comm), true, d.what); // nobody to differ from: every one is valid
  const std::string text = thrown_text<invalid_argument>([&] { construct(std::move(comm), rank == other, d.what); });
  expect(text.find("configuration differs between ranks: ") != std::string::npos, text);
  expect(text.find(std::string(d.field) + " (rank") != std::string::npos, "'", d.what, "' is named ", d.field, ": ",
         text);
  if (other > 0) expect(text.find(message("rank ", other, " differs from rank 0")) != std::string::npos, text);
}

/// A bad option on one rank: rank_error on all, with the rank's own text.
template <class C>
void bad_option_is_shared(C comm, int bad) {
  const bool mine = comm.rank() == bad;
  const int ranks = comm.size();
  std::vector<double> w(4);
  const std::vector<parameter_view<double>> views{{"w", w}};
  const per_layer_options options{
      .noise_multiplier = mine ? -1.0 : 1.0, .max_grad_norm = 1.0, .expected_batch_size = 8};
  const auto build = [&] { distributed_per_layer_optimizer(views, sgd{}, options, std::move(comm)); };
  const std::string text = ranks == 1 ? thrown_text<invalid_argument>(build) : thrown_text<rank_error>(build);
  expect(text.find("noise_multiplier") != std::string::npos, text);
  if (ranks > 1) expect(text.find(message("rank ", bad, ": ")) == 0, text);
}

} // namespace dpopt::test
