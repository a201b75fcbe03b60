// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// Correlated noise within the step: what is released, what it costs, and what becomes of rows when steps fail.
#include "dpopt/accumulation/integer_grid.hpp"
#include "dpopt/clipping/adaptive.hpp"
#include "dpopt/clipping/flat.hpp"
#include "dpopt/clipping/per_layer.hpp"
#include "dpopt/clipping/scheduled.hpp"
#include "dpopt/dp_optimizer/dp_optimizer.hpp"
#include "dpopt/noise/banded.hpp"
#include "dpopt/noise/banded_inverse.hpp"
#include "dpopt/noise/blt.hpp"
#include "dpopt/noise/correlated.hpp"
#include "dpopt/noise/tree.hpp"
#include "dpopt/optimizers/adam_bc.hpp"

#include "support/catch.hpp"
#include "support/probes.hpp"
#include "support/ranks.hpp"
#include "support/strategies.hpp"
#include "support/toy_training.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdint>
#include <string>
#include <tuple>
#include <utility>
#include <vector>

using namespace dpopt;
using namespace dpopt::test;

namespace {

constexpr double run_multiplier = 0.7;
const run_plan plan = run_plan::separated(6, 2, 2);
const std::array<double, 3> bounds{0.9, 0.4, 0.3};
const double sensitivity = std::sqrt(0.81 + 0.16 + 0.09);

struct banded_case {
  static auto strategy() { return banded(square_root_coefficients(3)); }
};
struct inverse_case {
  static auto strategy() { return banded_inverse(inverse_square_root_coefficients(3)); }
};
struct blt_case {
  static auto strategy() { return blt(blt_parameters{{0.8}, {0.4}}); }
};
struct tree_case {
  static auto strategy() { return tree(4); }
};
using cases = std::tuple<banded_case, inverse_case, blt_case, tree_case>;

template <class Strategy>
auto noise_of(Strategy strategy, const run_plan& declared = plan) {
  return correlated(counter_gaussian{.noise_multiplier = run_multiplier, .seed = 5}, std::move(strategy), declared);
}

/// An optimizer on a small model with correlated noise, sgd that moves by the released gradient.
template <class Strategy, class When = as_ready, class Clip = per_layer>
struct run {
  using optimizer =
      dp_optimizer<double, Clip, correlated<counter_gaussian, Strategy>, probe_accountant, expected_batch, sgd, When>;
  small_model model;
  journal log;
  optimizer opt;

  explicit run(Strategy strategy, Clip clip, const run_plan& declared = plan)
      : opt(model.views(), dp_options{}, std::move(clip), noise_of(std::move(strategy), declared),
            probe_accountant{&log}, expected_batch{.loss_reduction = loss_reduction::sum}, sgd{.learning_rate = 0.1},
            When{}) {}

  explicit run(Strategy strategy) : run(std::move(strategy), Clip{{bounds[0], bounds[1], bounds[2]}}) {}

  void feed(const small_batch& b, microbatch m = {}) {
    m.samples = b.samples;
    opt.begin(m);
    b.hand_over(opt);
  }
};

template <class Strategy>
run(Strategy) -> run<Strategy>;

/// (C^-1 z)_t for the whole small model, when the rows up to t took these numbers of the stream.
template <class Strategy>
std::vector<double> row(const Strategy& strategy, const std::vector<std::uint64_t>& steps) {
  counter_gaussian base{.noise_multiplier = 1, .seed = 5};
  base.draw_secret();
  const matrix inverse = realized_inverse(strategy, run_plan::once(plan.releases));
  std::vector<double> out(small_model::total);
  for (std::size_t s = 0; s < steps.size(); ++s) {
    isize at = 0;
    for (std::uint32_t p = 0; p < 3; ++p) {
      base.add({.step = steps[s], .parameter = p}, inverse[steps.size() - 1][s], out.data() + at,
               small_model::sizes[p]);
      at += small_model::sizes[p];
    }
  }
  return out;
}

// Released noise -----------------------------------------------------------------------------------------------------

TEMPLATE_LIST_TEST_CASE("each release is the clipped sum and its row of C^-1 z, at the run's multiplier times sens(C)",
                        "", cases) {
  const auto strategy = TestType::strategy();
  const double std = run_multiplier * strategy.sensitivity(plan) * sensitivity;
  run r(TestType::strategy());
  std::vector<std::uint64_t> steps;
  for (int t = 0; t < 6; ++t) {
    const small_batch batch(4, t + 1);
    r.feed(batch);
    r.opt.step();
    steps.push_back(static_cast<std::uint64_t>(t));
    CHECK(close(r.model.released(), plus(batch.clipped_per_layer(bounds), row(strategy, steps), std)));
    const matrix inverse = realized_inverse(strategy, run_plan::once(6));
    double squares = 0;
    for (const double w : inverse[static_cast<std::size_t>(t)]) squares += w * w;
    CHECK(r.opt.noise_std() == Approx(std * std::sqrt(squares)));
  }
}

TEST_CASE("it is the same with at_step, with pre_step and a hook, and with add_noise") {
  run plain(banded_case::strategy());
  run<banded<double>, at_step> late(banded_case::strategy());
  run hooked(banded_case::strategy());
  run split(banded_case::strategy());
  int seen = 0;
  hooked.opt.attach_step_hook([&](auto&) { ++seen; });
  for (int t = 0; t < 4; ++t) {
    const small_batch batch(4, t + 1);
    plain.feed(batch), late.feed(batch), hooked.feed(batch), split.feed(batch);
    plain.opt.step();
    late.opt.step();
    CHECK(hooked.opt.pre_step());
    CHECK(hooked.opt.step());
    split.opt.add_noise();
    split.opt.step();
    CHECK(late.model.values() == plain.model.values());
    CHECK(hooked.model.values() == plain.model.values());
    CHECK(close(split.model.values(), plain.model.values()));
  }
  CHECK(seen == 4);
}

TEST_CASE("bounds that change between releases scale the row and not the past") {
  const step_decay decay{.every = 1, .gamma = 0.5};
  run<banded<double>, as_ready, scheduled<per_layer, step_decay>> r(
      banded_case::strategy(), scheduled(per_layer{{bounds[0], bounds[1], bounds[2]}}, decay));
  const double std = run_multiplier * banded_case::strategy().sensitivity(plan) * sensitivity;
  std::vector<std::uint64_t> steps;
  double factor = 1;
  for (int t = 0; t < 5; ++t, factor /= 2) {
    const small_batch batch(4, t + 1);
    r.feed(batch);
    r.opt.step();
    steps.push_back(static_cast<std::uint64_t>(t));
    const std::array<double, 3> now{bounds[0] * factor, bounds[1] * factor, bounds[2] * factor};
    CHECK(close(r.model.released(),
                plus(batch.clipped_per_layer(now), row(banded_case::strategy(), steps), std * factor)));
  }
}

TEST_CASE("an integer grid gets the same noise, in double, before it is rounded to the master type") {
  small_model model;
  dp_optimizer opt(model.views(), dp_options{}, flat{1.0}, integer_grid{}, noise_of(tree_case::strategy()),
                   expected_batch{.loss_reduction = loss_reduction::sum}, sgd{.learning_rate = 0.1});
  const double std = run_multiplier * tree_case::strategy().sensitivity(plan);
  std::vector<std::uint64_t> steps;
  for (std::uint64_t t = 0; t < 6; ++t) {
    opt.begin({.samples = 0});
    opt.step();
    steps.push_back(t);
    CHECK(
        close(model.released(), plus(std::vector<double>(small_model::total), row(tree_case::strategy(), steps), std)));
  }
}

TEST_CASE("a clipper that learns gets rows of its own for its scalars, at its own std") {
  small_model model;
  auto noise = noise_of(banded_case::strategy());
  noise.validate();
  noise.bind(small_model::sizes, 1);
  noise.draw_secret();
  dp_optimizer opt(model.views(), dp_options{},
                   adaptive(flat{1.0}, {.count_noise_std = 10, .expected_batch_size = across_ranks{20}}),
                   noise_of(banded_case::strategy()), expected_batch{.loss_reduction = loss_reduction::sum}, sgd{});
  double bound = 1;
  for (std::uint64_t t = 0; t < 4; ++t) {
    noise.start_row(t);
    double side = 0;
    noise.add({.what = purpose::side_scalars, .step = t}, opt.clipper().side_std(neighbouring::add_remove), &side, 1);
    opt.begin({.samples = 0}); // no unit votes: the bound follows the noise alone
    opt.step();
    bound *= std::exp(-0.2 * side / 20);
    CHECK(opt.clipper().bound(0) == Approx(bound).epsilon(1e-12));
  }
}

// Ranks --------------------------------------------------------------------------------------------------------------

template <class T, class Strategy, class Comm>
auto toy_run(Strategy strategy, const std::vector<parameter_view<T>>& views, Comm comm) {
  return dp_optimizer(views, dp_options{.bucket_elements = 16}, per_layer{0.6}, integer_grid{}, std::move(comm),
                      noise_of(std::move(strategy)), expected_batch{across_ranks{23.0}}, sgd{.learning_rate = 0.5});
}

TEMPLATE_LIST_TEST_CASE("two and three ranks release what one does, all with the same noise", "", cases) {
  const auto one = toy_train<double>(
      4, [](const auto& views) { return toy_run<double>(TestType::strategy(), views, serial{}); },
      [](isize) { return all_at_once(23); });
  for (const int W : {2, 3}) {
    std::vector<toy_result<double>> results(static_cast<std::size_t>(W));
    rethrow_first(run_ranks(W, [&](threads comm) {
      const int r = comm.rank();
      results[static_cast<std::size_t>(r)] = toy_train<double>(
          4, [&](const auto& views) { return toy_run<double>(TestType::strategy(), views, std::move(comm)); },
          [&](isize s) { return uneven_share(23, s, r, W); }, 7);
    }));
    for (const auto& result : results) {
      CHECK(distance(result, results[0]) == 0);
      CHECK(distance(result, one) < 1e-12);
    }
  }
}

TEST_CASE("ranks that declare other plans or coefficients do not start") {
  const auto attempt = [](auto make) {
    return error_texts(run_ranks(2, [&](threads comm) {
      toy_model<double> model(toy_sizes());
      const int r = comm.rank();
      auto opt = dp_optimizer(model.views(), dp_options{}, flat{1.0}, std::move(comm), make(r), unscaled{}, sgd{});
      opt.begin({.samples = 0});
      opt.step();
    }));
  };
  CHECK(attempt([](int) { return noise_of(banded({1.0, 0.5})); }).empty());
  CHECK_THAT(attempt([](int r) { return noise_of(banded({1.0, 0.5 + 0.1 * r})); }), contains_text("noise"));
  CHECK_THAT(attempt([](int r) {
               return noise_of(banded({1.0, 0.5}), run_plan::once(r == 0 ? 5 : 6));
             }),
             contains_text("noise"));
}

// Cost ---------------------------------------------------------------------------------------------------------------

TEMPLATE_LIST_TEST_CASE("the accountant is told of the whole run, once, at the first step", "", cases) {
  run r(TestType::strategy());
  CHECK(r.log.charged.empty());
  for (int t = 0; t < 3; ++t) {
    r.feed(small_batch(4, t + 1));
    r.opt.step();
    REQUIRE(r.log.charged.size() == 1);
  }
  CHECK(r.log.charged[0].noise_multiplier == run_multiplier); // neither times nor over the sensitivity of C
  CHECK(r.log.charged[0].sampling_rate == 1);
  CHECK(r.log.charged[0].count == 1);
}

TEST_CASE("epsilon is that of one Gaussian mechanism, from the first step to the last") {
  small_model model;
  dp_optimizer opt(model.views(), dp_options{.relation = neighbouring::zero_out}, flat{1.0},
                   noise_of(tree_case::strategy()), unscaled{}, sgd{});
  CHECK(opt.epsilon(1e-5) == 0);
  rdp_accountant one;
  one.record({.noise_multiplier = run_multiplier, .relation = neighbouring::zero_out});
  for (int t = 0; t < 6; ++t) {
    opt.begin({.samples = 0});
    opt.step();
    CHECK(opt.epsilon(1e-5) == one.epsilon(1e-5));
  }
}

TEST_CASE("a sampled batch is refused before anything is charged or released, and the next step is the first row") {
  run r(banded_case::strategy());
  const auto before = r.model.values();
  r.feed(small_batch(4, 1), {.token = {sampling_scheme::poisson, 0.5, 1}});
  CHECK_THROWS_WITH(r.opt.step(), contains_text("no amplification by sampling, but this step's token has rate 0.5"));
  CHECK(r.model.values() == before);
  CHECK(r.log.charged.empty());
  CHECK(r.opt.noise().rows() == 0);
  const small_batch batch(4, 2);
  r.feed(batch, {.token = {sampling_scheme::poisson, 1, 2}}); // everyone: no amplification is claimed
  r.opt.step();
  CHECK(r.log.charged.size() == 1);
  const double std = r.opt.noise().multiplier() * sensitivity;
  CHECK(close(r.model.released(), plus(batch.clipped_per_layer(bounds), row(banded_case::strategy(), {1}), std)));
}

// Rows ---------------------------------------------------------------------------------------------------------------

TEMPLATE_LIST_TEST_CASE("more steps than declared are refused before anything is released", "", cases) {
  run r(TestType::strategy());
  for (int t = 0; t < 6; ++t) {
    r.feed(small_batch(4, t + 1));
    r.opt.step();
  }
  const auto values = r.model.values();
  const auto released = r.model.released();
  for (int again = 0; again < 2; ++again) {
    r.feed(small_batch(4, 7));
    CHECK_THROWS_WITH(r.opt.step(), contains_text("declared with 6 releases and all were made"));
    CHECK(r.model.values() == values);
    CHECK(r.model.released() == released);
    CHECK(r.log.charged.size() == 1);
    CHECK(r.opt.releases() == 6); // it failed before the reduction was agreed
  }
}

TEMPLATE_LIST_TEST_CASE("a step that fails takes a number of the stream and no row", "", cases) {
  run r(TestType::strategy());
  std::vector<std::uint64_t> steps;
  std::uint64_t number = 0;
  for (int t = 0; t < 6; ++t) {
    if (t % 2 == 1) {
      r.opt.begin({.samples = 2}); // without gradients
      CHECK_THROWS_AS(r.opt.step(), state_error);
      ++number;
    }
    const small_batch batch(4, t + 1);
    r.feed(batch);
    r.opt.step();
    steps.push_back(number++);
    const double std = r.opt.noise().multiplier() * sensitivity;
    CHECK(close(r.model.released(), plus(batch.clipped_per_layer(bounds), row(TestType::strategy(), steps), std)));
  }
}

TEST_CASE("a skipped step takes no row, and a release that nobody applied takes one") {
  run r(tree_case::strategy());
  r.opt.signal_skip_step();
  r.feed(small_batch(4, 1));
  CHECK_FALSE(r.opt.step());
  CHECK(r.opt.noise().rows() == 0);
  r.feed(small_batch(4, 2));
  CHECK(r.opt.pre_step());
  r.opt.zero_grad(); // dropped, but it was seen
  CHECK(r.opt.noise().rows() == 1);
  const small_batch batch(4, 3);
  r.feed(batch);
  r.opt.step();
  const double std = r.opt.noise().multiplier() * sensitivity;
  CHECK(close(r.model.released(), plus(batch.clipped_per_layer(bounds), row(tree_case::strategy(), {0, 1}), std)));
}

TEST_CASE("an optimizer that is told the noise is told that of the row") {
  small_model model;
  dp_optimizer opt(model.views(), dp_options{}, flat{1.0}, noise_of(tree_case::strategy()), unscaled{}, adam_bc{});
  std::vector<double> told;
  for (int t = 0; t < 4; ++t) {
    opt.begin({.samples = 0});
    opt.step();
    told.push_back(opt.noise_std() / (opt.noise().multiplier() * 1.0));
  }
  CHECK(told[0] == Approx(1));
  CHECK(told[1] == Approx(std::sqrt(2)));
  CHECK(told[2] == Approx(1));
  CHECK(told[3] == Approx(std::sqrt(3)));
}

} // namespace
