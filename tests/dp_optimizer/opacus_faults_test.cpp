// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// Faults that were found in Opacus' distributed per-layer path, in the order in which they were written down. Each case
// shows that the same use of dpopt has another outcome. Not here: 3.16 (names that a package exports:
// tools/check_stages), 3.18 (checkpoints) and 3.20 (adaptive clipping), which are tested with the parts that they
// belong to.
#include "dpopt/dp_optimizer/per_layer_optimizers.hpp"

#include "dpopt/accounting/no_accountant.hpp"
#include "dpopt/communication/threads.hpp"
#include "dpopt/noise/sequential_gaussian.hpp"
#include "support/catch.hpp"
#include "support/probes.hpp"
#include "support/ranks.hpp"

#include <algorithm>
#include <array>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <list>
#include <memory>
#include <random>
#include <span>
#include <string>
#include <utility>
#include <vector>

using namespace dpopt;
using namespace dpopt::test;

namespace {

constexpr double huge_bound = 1e8; // clips nothing
const std::array<double, 3> bounds{0.9, 0.4, 0.3};

// The batch must live until the step with at_step, whose optimizer keeps views.
template <class Opt>
void feed(Opt& opt, const small_batch& b, microbatch m = {}) {
  m.samples = b.samples;
  opt.begin(m);
  b.hand_over(opt);
}

// The plain mean gradient of some batches.
std::vector<double> mean_of(const std::vector<small_batch>& batches) {
  std::vector<double> sum(small_model::total, 0.0);
  double samples = 0;
  for (const small_batch& b : batches) {
    sum = plus(sum, b.clipped_per_layer({huge_bound, huge_bound, huge_bound}));
    samples += static_cast<double>(b.samples);
  }
  return over(sum, samples);
}

// Without noise and clipping; the learning rate is 1.
per_layer_options plain(double samples_per_rank) {
  return {.noise_multiplier = 0, .max_grad_norm = huge_bound, .expected_batch_size = samples_per_rank};
}
constexpr sgd unit_rate{.learning_rate = 1};

// What one step of the preset with these options releases.
std::vector<double> one_release(const per_layer_options& options, const small_batch& batch = small_batch(6)) {
  small_model model;
  simple_distributed_per_layer_optimizer opt(model.views(), unit_rate, options);
  feed(opt, batch);
  opt.step();
  return model.released();
}

} // namespace

// The distributed per-layer optimizer itself
// ---------------------------------------------------------------------------

TEST_CASE("fault 3.1: the user's generator is the one that is used") {
  const auto seeded = [](std::uint64_t seed) {
    return one_release(
        {.noise_multiplier = 1, .max_grad_norm = 1.0, .expected_batch_size = 6, .generator = philox_generator{seed}});
  };
  const auto unseeded = [](bool secure) {
    return one_release({.noise_multiplier = 1, .max_grad_norm = 1.0, .expected_batch_size = 6, .secure_mode = secure});
  };
  CHECK(seeded(1) == seeded(1));
  CHECK(seeded(1) != seeded(2));
  CHECK(unseeded(false) != unseeded(false)); // a secret seed by default
  CHECK(unseeded(true) != unseeded(true));
}

namespace {
struct counting_generator {
  using result_type = std::uint32_t;
  std::mt19937* engine;
  int* draws;
  static constexpr result_type min() { return std::mt19937::min(); }
  static constexpr result_type max() { return std::mt19937::max(); }
  result_type operator()() {
    ++*draws;
    return static_cast<result_type>((*engine)());
  }
};
} // namespace

TEST_CASE("fault 3.1: a source of the user's own is the only one drawn from") {
  const auto run = [](unsigned seed, int& draws) {
    small_model model;
    std::mt19937 engine(seed);
    dp_optimizer opt(model.views(), dp_options{}, per_layer{1.0}, unscaled{}, root_before_reduction{}, no_accountant{},
                     sequential_gaussian(1.0, counting_generator{&engine, &draws}));
    feed(opt, small_batch(6));
    opt.step();
    return model.released();
  };
  int draws = 0;
  int again = 0;
  int other = 0;
  CHECK(run(5, draws) == run(5, again));
  CHECK(draws == again);
  CHECK(draws >= small_model::total); // at least a word for each number of the release
  CHECK(run(6, other) != run(5, again));
}

TEST_CASE("fault 3.2: a forgotten zero_grad() leaves nothing of the released batch behind") {
  small_model model;
  distributed_per_layer_optimizer opt(model.views(), unit_rate, plain(6));
  feed(opt, small_batch(6, 1));
  opt.step();
  feed(opt, small_batch(6, 2));
  opt.step();
  CHECK(close(model.released(), mean_of({small_batch(6, 2)})));
}

TEST_CASE("fault 3.3: too few or too many bounds are an error, not parameters without clipping and noise") {
  small_model model;
  for (const clip_bounds& wrong : {clip_bounds{1.0, 2.0}, clip_bounds{1.0, 2.0, 3.0, 4.0}})
    CHECK_THROWS_AS(
        distributed_per_layer_optimizer(model.views(), sgd{},
                                        {.noise_multiplier = 1, .max_grad_norm = wrong, .expected_batch_size = 1}),
        invalid_argument);
  CHECK_THROWS_WITH(
      distributed_per_layer_optimizer(model.views(), sgd{},
                                      {.noise_multiplier = 1, .max_grad_norm = {1.0, 2.0}, .expected_batch_size = 1}),
      "max_grad_norm: 2 bounds for 3 parameters; give one for all, one each, or name them");
}

TEST_CASE("fault 3.3: with frozen layers, bounds by name cannot slip to a neighbour") {
  small_model model;
  std::vector<parameter_view<double>> trainable = model.views();
  trainable.erase(trainable.begin()); // "weight" is frozen
  distributed_per_layer_optimizer opt(
      trainable, unit_rate,
      {.noise_multiplier = 0, .max_grad_norm = {{"scale", 0.3}, {"bias", 0.4}}, .loss_reduction = loss_reduction::sum});
  const small_batch b(6);
  opt.begin({.samples = 6});
  opt.gradient_ready(0, b.source(1));
  opt.gradient_ready(1, b.source(2));
  opt.step();
  std::vector<double> expected = b.clipped_per_layer(bounds);
  std::fill_n(expected.begin(), 4, 0.0);
  CHECK(close(model.released(), expected));
}

TEST_CASE("fault 3.3: every parameter is clipped to its own bound and gets its noise") {
  small_model model;
  journal log;
  dp_optimizer opt(model.views(), dp_options{}, per_layer{{bounds[0], bounds[1], bounds[2]}}, probe_noise{2, &log},
                   unscaled{}, no_accountant{});
  const small_batch b(6);
  feed(opt, b);
  opt.step();
  CHECK(close(model.released(), plus(b.clipped_per_layer(bounds), 2 * std::sqrt(0.81 + 0.16 + 0.09))));
}

TEST_CASE("fault 3.4: what was released on any rank shares no memory with its sum") {
  std::array<std::vector<double>, 3> after;
  const auto errors = run_ranks(3, [&](threads comm) {
    const int rank = comm.rank();
    small_model model;
    distributed_per_layer_optimizer opt(model.views(), unit_rate, plain(2), std::move(comm));
    for (int step = 0; step < 3; ++step) {
      feed(opt, small_batch(2, 10 * step + rank));
      opt.step();
      after[static_cast<std::size_t>(rank)] = model.released();
      for (auto& g : model.gradients) g.assign(g.size(), 1e9); // whoever accumulates in place now has this in the sum
    }
  });
  CHECK(error_texts(errors) == "");
  CHECK(close(after[0], mean_of({small_batch(2, 20), small_batch(2, 21), small_batch(2, 22)})));
  CHECK(after[1] == after[0]);
  CHECK(after[2] == after[0]);
}

TEST_CASE("fault 3.5: the release is the mean over all ranks' samples, for any number of ranks") {
  for (int ranks = 1; ranks <= 5; ++ranks) {
    std::vector<small_batch> batches;
    for (int r = 0; r < ranks; ++r) batches.emplace_back(3, r + 1);
    std::vector<std::vector<double>> early(static_cast<std::size_t>(ranks));
    std::vector<std::vector<double>> late = early;
    const auto errors = run_ranks(ranks, [&](threads comm) {
      const auto r = static_cast<std::size_t>(comm.rank());
      small_model model;
      distributed_per_layer_optimizer opt(model.views(), unit_rate, plain(3), std::move(comm));
      feed(opt, batches[r]);
      opt.step();
      early[r] = model.released();
    });
    CHECK(error_texts(errors) == "");
    const auto errors_late = run_ranks(ranks, [&](threads comm) {
      const auto r = static_cast<std::size_t>(comm.rank());
      small_model model;
      per_layer_options options = plain(0);
      options.expected_batch_size = across_ranks(3.0 * ranks);
      simple_distributed_per_layer_optimizer opt(model.views(), unit_rate, options, std::move(comm));
      feed(opt, batches[r]);
      opt.step();
      late[r] = model.released();
    });
    CHECK(error_texts(errors_late) == "");
    for (std::size_t r = 0; r < early.size(); ++r) {
      CHECK(close(early[r], mean_of(batches)));
      CHECK(close(late[r], mean_of(batches)));
    }
  }
}

TEMPLATE_TEST_CASE("fault 3.6: the collectives of a step are the same, whatever its microbatches", "", as_ready,
                   at_step) {
  small_model model;
  journal log;
  dp_optimizer opt(model.views(), {.bucket_elements = 3}, per_layer{1.0}, probe_noise{1, nullptr},
                   expected_batch{.expected_batch_size = 4}, mirrored_ranks{2, &log}, no_accountant{}, TestType{});
  const auto collectives = [&](const std::vector<isize>& parts, bool virtual_steps) {
    log.sums.clear();
    std::list<small_batch> batches;
    for (std::size_t i = 0; i < parts.size(); ++i) {
      const bool last = i + 1 == parts.size();
      opt.signal_skip_step(virtual_steps && !last);
      feed(opt, batches.emplace_back(parts[i]), {.last = last || virtual_steps});
      if (virtual_steps && !last) {
        opt.step();
        CHECK(log.sums.empty()); // no message, and no unclipped gradient, leaves before the boundary
      }
    }
    opt.step();
    return log.sums;
  };
  const std::vector<isize> usual = collectives({4}, false);
  CHECK(usual.size() == 3); // two buckets and the control message
  for (const std::vector<isize>& parts : {std::vector<isize>{0}, {1, 2, 3}, {0, 0, 5, 0}}) {
    CHECK(collectives(parts, false) == usual);
    CHECK(collectives(parts, true) == usual);
  }
}

TEST_CASE("fault 3.6: ranks with different numbers of microbatches do not wait for each other for ever") {
  const std::array<std::vector<isize>, 3> parts{{{4}, {1, 2, 1}, {0}}};
  std::array<std::vector<double>, 3> released;
  const auto errors = run_ranks(3, [&](threads comm) {
    const auto r = static_cast<std::size_t>(comm.rank());
    small_model model;
    distributed_per_layer_optimizer opt(model.views(), unit_rate, plain(1), std::move(comm));
    for (int step = 0; step < 2; ++step) {
      for (std::size_t i = 0; i < parts[r].size(); ++i)
        feed(opt, small_batch(parts[r][i], static_cast<int>(i) + 1), {.last = i + 1 == parts[r].size()});
      opt.step();
    }
    released[r] = model.released();
  });
  CHECK(error_texts(errors) == "");
  const std::vector<double> mean =
      mean_of({small_batch(4, 1), small_batch(1, 1), small_batch(2, 2), small_batch(1, 3)});
  CHECK(close(released[0], over(plus(std::vector<double>(7, 0.0), mean, 8), 3))); // 8 samples where 3 were expected
  CHECK(released[1] == released[0]);
  CHECK(released[2] == released[0]);
}

TEST_CASE("fault 3.7: a model is owned by one optimizer, and a second one after it counts each sample once") {
  small_model model;
  auto opt = std::make_unique<distributed_per_layer_optimizer<double, sgd>>(model.views(), unit_rate, plain(6));
  CHECK_THROWS_AS(distributed_per_layer_optimizer(model.views(), unit_rate, plain(6)), invalid_argument);
  feed(*opt, small_batch(6, 1));
  opt->step();
  opt.reset();
  distributed_per_layer_optimizer again(model.views(), unit_rate, plain(6));
  feed(again, small_batch(6, 2));
  again.step();
  CHECK(close(model.released(), mean_of({small_batch(6, 2)})));
}

TEST_CASE("fault 3.8: accumulated_iterations() answers before the first backward, and counts declared batches only") {
  small_model model;
  simple_distributed_per_layer_optimizer opt(model.views(), unit_rate, plain(4));
  CHECK(opt.accumulated_iterations() == 0);
  const small_batch whole(4, 1);
  const small_batch part(1, 2);
  const small_batch rest(3, 3);
  feed(opt, whole, {.last = false, .ends_batch = true});
  CHECK(opt.accumulated_iterations() == 1);
  feed(opt, part, {.last = false});
  feed(opt, rest);
  CHECK(opt.accumulated_iterations() == 2);
  opt.step();
  CHECK(opt.accumulated_iterations() == 2);
  CHECK(close(model.released(), mean_of({whole, part, rest})));
}

TEST_CASE("fault 3.8: ranks that count differently are an error on all of them") {
  const auto errors = run_ranks(2, [&](threads comm) {
    const bool odd = comm.rank() == 1;
    small_model model;
    distributed_per_layer_optimizer opt(model.views(), unit_rate, plain(4), std::move(comm));
    if (odd) feed(opt, small_batch(4, 1), {.last = false, .ends_batch = true});
    feed(opt, small_batch(4, 2));
    opt.step();
  });
  for (const auto& e : errors) {
    CHECK(holds<rank_error>(e));
    CHECK(error_text(e).find("ranks differ in what they declared for step 0") != std::string::npos);
  }
}

TEST_CASE("fault 3.9: gradients of several backward passes, and rows that are not contiguous") {
  small_model model;
  distributed_per_layer_optimizer opt(model.views(), unit_rate,
                                      {.noise_multiplier = 0,
                                       .max_grad_norm = {bounds[0], bounds[1], bounds[2]},
                                       .loss_reduction = loss_reduction::sum});
  const small_batch b(5);
  const small_batch c(4, 2);
  feed(opt, c, {.last = false});
  opt.begin({.samples = 5});
  std::array<std::vector<double>, 3> wide;
  for (std::size_t p = 0; p < 3; ++p) {
    const isize n = small_model::sizes[p];
    wide[p].assign(static_cast<std::size_t>(5 * (n + 3)),
                   std::numeric_limits<double>::quiet_NaN()); // gaps between rows
    for (isize i = 0; i < 5; ++i) std::copy_n(b.rows[p].begin() + i * n, n, wide[p].begin() + i * (n + 3));
    opt.gradient_ready(static_cast<isize>(p), materialized<double>(wide[p].data(), 5, n, n + 3));
  }
  opt.step();
  CHECK(close(model.released(), plus(b.clipped_per_layer(bounds), c.clipped_per_layer(bounds))));
}

TEST_CASE("fault 3.10: the simple optimizer takes every option that the other one takes, and heeds it") {
  for (const auto reduction : {loss_reduction::mean, loss_reduction::sum}) {
    const per_layer_options options{.noise_multiplier = 0.7,
                                    .max_grad_norm = {bounds[0], bounds[1], bounds[2]},
                                    .expected_batch_size = per_rank(5),
                                    .loss_reduction = reduction,
                                    .generator = philox_generator{3},
                                    .other = {.relation = neighbouring::replace_one, .bucket_elements = 2}};
    small_model early;
    small_model late;
    distributed_per_layer_optimizer now(early.views(), unit_rate, options);
    simple_distributed_per_layer_optimizer later(late.views(), unit_rate, options);
    for (int step = 0; step < 3; ++step) {
      const small_batch b(5, step + 1);
      feed(now, b);
      feed(later, b);
      now.step();
      later.step();
      CHECK(late.released() == early.released());
    }
    CHECK(later.sensitivity() == now.sensitivity());
    CHECK(later.noise_std() == now.noise_std());
    CHECK(later.epsilon(1e-5) == now.epsilon(1e-5));
  }
}

// Inherited from the per-layer optimizer of one process ---------------------------------------------------------------

TEST_CASE("fault 3.11: the norm of a scalar parameter is a norm for each sample") {
  double value = 0;
  double gradient = 0;
  distributed_per_layer_optimizer opt(
      std::vector<parameter_view<double>>{{"scale", std::span(&value, 1), std::span(&gradient, 1)}}, unit_rate,
      {.noise_multiplier = 0, .max_grad_norm = 1.0, .loss_reduction = loss_reduction::sum});
  const std::vector<double> rows = {0.25, -0.5, 100, -1000};
  opt.begin({.samples = 4});
  opt.gradient_ready(0, materialized<double>(rows.data(), 4, 1));
  opt.step();
  CHECK(gradient == Approx(0.25 - 0.5 + 1 - 1).margin(1e-7));
}

namespace {
struct bfloat16 {
  std::uint16_t bits = 0;
  operator float() const { return std::bit_cast<float>(static_cast<std::uint32_t>(bits) << 16); } // NOLINT
};
} // namespace

TEST_CASE("fault 3.12: gradients of any storage type meet a master of another, with norms in double") {
  std::vector<float> weight(4, 0.0F);
  std::vector<float> bias(2, 0.0F);
  std::vector<float> scale(1, 0.0F);
  std::vector<float> weight_gradient(4);
  std::vector<float> bias_gradient(2);
  std::vector<float> scale_gradient(1);
  distributed_per_layer_optimizer opt(std::vector<parameter_view<float>>{{"weight", weight, weight_gradient},
                                                                         {"bias", bias, bias_gradient},
                                                                         {"scale", scale, scale_gradient}},
                                      unit_rate,
                                      {.noise_multiplier = 0,
                                       .max_grad_norm = {bounds[0], bounds[1], bounds[2]},
                                       .loss_reduction = loss_reduction::sum});
  small_batch b(5);
  std::vector<bfloat16> half; // "bias" in 16 bits: the definition below is given the numbers as they were stored
  for (double& x : b.rows[1]) {
    half.push_back({static_cast<std::uint16_t>(std::bit_cast<std::uint32_t>(static_cast<float>(x)) >> 16)});
    x = static_cast<double>(half.back());
  }
  std::vector<float> single(b.rows[2].begin(), b.rows[2].end());
  opt.begin({.samples = 5});
  opt.gradient_ready(0, b.source(0)); // double
  opt.gradient_ready(1, materialized<bfloat16>(half.data(), 5, 2));
  opt.gradient_ready(2, materialized<float>(single.data(), 5, 1));
  opt.step();
  const std::vector<double> expected = b.clipped_per_layer(bounds);
  std::vector<double> got(weight_gradient.begin(), weight_gradient.end());
  got.insert(got.end(), bias_gradient.begin(), bias_gradient.end());
  got.push_back(static_cast<double>(scale_gradient[0]));
  for (std::size_t k = 0; k < 7; ++k) CHECK(got[k] == Approx(expected[k]).epsilon(2e-6).margin(1e-6));
}

// The distributed optimizer -------------------------------------------------------------------------------------------

TEST_CASE("fault 3.13: an error on one rank is the same error on all, and the step after it works") {
  for (int failing = 0; failing < 3; ++failing) {
    std::array<std::string, 3> texts;
    std::array<std::vector<double>, 3> released;
    const auto errors = run_ranks(3, [&](threads comm) {
      const int rank = comm.rank();
      const auto r = static_cast<std::size_t>(rank);
      small_model model;
      const std::vector<double> before = model.values();
      distributed_per_layer_optimizer opt(model.views(), unit_rate, plain(2), std::move(comm));
      feed(opt, small_batch(2, rank + 1));
      if (rank == failing) opt.gradient_ready(1, small_batch(2).source(1)); // a second time
      try {
        opt.step();
      } catch (const rank_error& e) {
        texts[r] = e.what();
      }
      if (model.values() != before) texts[r] += " and the values moved";
      feed(opt, small_batch(2, rank + 1));
      opt.step();
      released[r] = model.released();
    });
    CHECK(error_texts(errors) == "");
    for (std::size_t r = 0; r < 3; ++r) {
      CHECK(texts[r] ==
            "rank " + std::to_string(failing) +
                ": second gradient for 'bias' in one microbatch; add the uses of a tied parameter up in one "
                "source (1 of 3 ranks failed)");
      CHECK(close(released[r], mean_of({small_batch(2, 1), small_batch(2, 2), small_batch(2, 3)})));
    }
  }
}

TEST_CASE("fault 3.14: parameters travel together, not one message each") {
  journal log;
  std::vector<double> storage(100, 0.0);
  const std::vector<double> row(1, 0.5);
  std::vector<std::string> names(100);
  std::vector<parameter_view<double>> views;
  for (std::size_t p = 0; p < 100; ++p) {
    names[p] = "parameter " + std::to_string(p);
    views.push_back({names[p], std::span(&storage[p], 1)});
  }
  dp_optimizer opt(views, dp_options{}, per_layer{1.0}, probe_noise{1, nullptr}, unscaled{}, mirrored_ranks{3, &log},
                   no_accountant{});
  log.sums.clear();
  opt.begin({.samples = 1});
  for (isize p = 99; p >= 0; --p) opt.gradient_ready(p, materialized<double>(row.data(), 1, 1));
  opt.step();
  CHECK(log.sums.size() == 2); // all parameters, and the control message
  CHECK(log.sums[0] == 100);
}

TEST_CASE("fault 3.15: the closure's value comes back") {
  small_model model;
  distributed_per_layer_optimizer opt(model.views(), unit_rate, plain(6));
  const double loss = opt.step([&] {
    feed(opt, small_batch(6));
    return 0.693;
  });
  CHECK(loss == 0.693);
  CHECK(close(model.released(), mean_of({small_batch(6)})));
}

// Neighbours ----------------------------------------------------------------------------------------------------------

TEST_CASE("fault 3.17: noise for parameters in double has the resolution of double, in secure mode too") {
  for (const bool secure : {true, false}) {
    const std::vector<double> noise = one_release(
        {.noise_multiplier = 1, .max_grad_norm = 1.0, .loss_reduction = loss_reduction::sum, .secure_mode = secure},
        small_batch(0));
    for (const double x : noise) CHECK(x != static_cast<double>(static_cast<float>(x))); // by chance: 1 in 2^29
  }
}

TEST_CASE("fault 3.19: a sample that is not finite adds exactly nothing, and the others all of theirs") {
  const small_batch clean(6);
  for (const double bad : {std::numeric_limits<double>::quiet_NaN(), std::numeric_limits<double>::infinity()}) {
    small_batch broken = clean;
    broken.rows[0][4 * 2 + 1] = bad;
    small_batch without = clean;
    for (std::size_t k = 0; k < 4; ++k) without.rows[0][4 * 2 + k] = 0;
    const per_layer_options options{.noise_multiplier = 0,
                                    .max_grad_norm = {bounds[0], bounds[1], bounds[2]},
                                    .loss_reduction = loss_reduction::sum};
    CHECK(close(one_release(options, broken), without.clipped_per_layer(bounds)));
  }
}

TEST_CASE("fault 3.21: a loop that is left early leaves no stale signal behind") {
  small_model model;
  simple_distributed_per_layer_optimizer opt(model.views(), unit_rate, plain(4));
  const small_batch left(1, 1);
  opt.signal_skip_step(); // four parts were planned, and the loop is left after the first
  feed(opt, left, {.last = false});
  CHECK_FALSE(opt.step());
  opt.discard();
  std::vector<small_batch> parts;
  for (int part = 0; part < 4; ++part) parts.emplace_back(1, part + 10);
  for (std::size_t part = 0; part < 4; ++part) { // the next epoch
    opt.signal_skip_step(part < 3);
    feed(opt, parts[part], {.last = part == 3});
    CHECK(opt.step() == (part == 3));
  }
  CHECK(close(model.released(), mean_of(parts)));
}

TEST_CASE("fault 3.21: parts are told by an argument, so that nothing is signalled at sampling time") {
  small_model model;
  distributed_per_layer_optimizer opt(model.views(), unit_rate, plain(4));
  feed(opt, small_batch(1, 1), {.last = false});
  opt.discard(); // left early
  feed(opt, small_batch(1, 2), {.last = false});
  feed(opt, small_batch(3, 3), {.last = true});
  opt.step();
  CHECK(close(model.released(), mean_of({small_batch(1, 2), small_batch(3, 3)})));
}

TEST_CASE("fault 3.22: expected size and sampling rate are the user's numbers, not rounded ones") {
  constexpr double records = 1000;
  constexpr double rate = 1.0 / 16; // of N = 1000: 62.5
  small_model model;
  distributed_per_layer_optimizer opt(
      model.views(), unit_rate,
      {.noise_multiplier = 0, .max_grad_norm = huge_bound, .expected_batch_size = across_ranks(rate * records)});
  feed(opt, small_batch(6), {.token = {sampling_scheme::poisson, rate, 1}});
  opt.step();
  CHECK(close(model.released(), over(plus(std::vector<double>(7, 0.0), mean_of({small_batch(6)}), 6), 62.5)));
  REQUIRE(opt.accountant().history().size() == 1);
  CHECK(opt.accountant().history()[0].sampling_rate == rate);
}
