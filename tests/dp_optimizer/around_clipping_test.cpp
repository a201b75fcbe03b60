// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// What stands around clipping, through the whole optimizer: combined sources, sums with a memory, averages of
// parameters, and base optimizers that know the noise.
#include "dpopt/accounting/no_accountant.hpp"
#include "dpopt/accumulation/compensated_sum.hpp"
#include "dpopt/clipping/per_layer.hpp"
#include "dpopt/communication/threads.hpp"
#include "dpopt/dp_optimizer/dp_optimizer.hpp"
#include "dpopt/gradients/preconditioned.hpp"
#include "dpopt/gradients/tied.hpp"
#include "dpopt/gradients/units.hpp"
#include "dpopt/optimizers/exponential_average.hpp"
#include "dpopt/optimizers/scale_then_privatize.hpp"
#include "support/catch.hpp"
#include "support/probes.hpp"
#include "support/ranks.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <utility>
#include <vector>

using namespace dpopt;
using namespace dpopt::test;

namespace {

const counter_gaussian no_noise{.noise_multiplier = 0, .seed = 1};
const expected_batch undivided{per_rank{1}};

/// x -= g, and a base optimizer that is told the noise and writes it down.
const sgd plain{.learning_rate = 1};
struct writes_noise {
  using role = roles::base_optimizer;
  static constexpr std::size_t slots = 0;
  struct step {
    double noise;
    template <class T>
    void update(T* x, const T*, std::array<T*, 0>, isize n) const {
      std::fill_n(x, n, static_cast<T>(noise));
    }
  };
  void validate() const {}
  [[nodiscard]] step at(std::uint64_t) const { return {-1}; }
  [[nodiscard]] step at(std::uint64_t, double noise_std) const { return {noise_std}; }
};
static_assert(NoiseAwareOptimizer<writes_noise, float>);

/// On every rank: 1, many numbers that 1 swallows, and -1, with nothing clipped. What arrives in x is minus their sum.
template <class A>
double small_numbers_kept(threads comm, isize microbatches) {
  std::vector<float> x(1, 0.0F);
  dp_optimizer opt(std::vector<parameter_view<float>>{{"x", x}}, dp_options{}, flat{10.0}, A{}, std::move(comm),
                   no_noise, expected_batch{across_ranks{1}}, plain, no_accountant{});
  std::vector<float> rows(6002, 0x1p-26F);
  rows.front() = 1;
  rows.back() = -1;
  isize first = 0;
  for (isize m = 0; m < microbatches; ++m) {
    const isize last = m + 1 == microbatches ? 6002 : first + 1 + 500 * m;
    opt.begin({.samples = last - first, .last = last == 6002});
    opt.gradient_ready(0, materialized<float>(rows.data() + first, last - first, 1));
    first = last;
  }
  opt.step();
  return -static_cast<double>(x[0]);
}

} // namespace

// ---- sums with a memory ---------------------------------------------------------------------------------------------

TEST_CASE(
    "around clipping: what a compensated sum kept goes to the other ranks, from any number of ranks and microbatches") {
  for (int w = 1; w <= 5; ++w)
    for (const isize microbatches : {1, 3}) {
      std::vector<double> ours(static_cast<std::size_t>(w)), running(ours);
      const auto errors = run_ranks(w, [&](threads comm) {
        const auto rank = static_cast<std::size_t>(comm.rank());
        ours[rank] = small_numbers_kept<compensated_sum<float>>(std::move(comm), microbatches);
      });
      REQUIRE(error_texts(errors) == "");
      const auto others = run_ranks(w, [&](threads comm) {
        const auto rank = static_cast<std::size_t>(comm.rank());
        running[rank] = small_numbers_kept<running_sum<float>>(std::move(comm), microbatches);
      });
      REQUIRE(error_texts(others) == "");
      for (const double sum : ours) CHECK(sum == Approx(w * 6000 * 0x1p-26).epsilon(1e-5));
      for (const double sum : running) CHECK(std::abs(sum) < 0.1 * w * 6000 * 0x1p-26); // why it exists
    }
}

TEST_CASE("around clipping: what a compensated sum kept is dropped with the step: discarded, failed, or released") {
  std::vector<float> x(1, 0.0F);
  dp_optimizer opt(std::vector<parameter_view<float>>{{"x", x}}, dp_options{}, flat{10.0}, compensated_sum<float>{},
                   no_noise, undivided, plain, no_accountant{});
  const std::vector<float> rows = {1, 0x1p-26F, 0x1p-26F, 0x1p-26F, 0x1p-26F};
  const auto accumulate = [&] {
    opt.begin({.samples = 5});
    opt.gradient_ready(0, materialized<float>(rows.data(), 5, 1));
  };
  opt.begin({.samples = 5, .last = false});
  opt.gradient_ready(0, materialized<float>(rows.data(), 5, 1));
  opt.discard();
  opt.begin({.samples = 0});
  opt.step();
  CHECK(x[0] == 0);
  accumulate();
  opt.gradient_ready(0, materialized<float>(rows.data(), 5, 1)); // a second time
  CHECK_THROWS_AS(opt.step(), state_error);
  opt.begin({.samples = 0});
  opt.step();
  CHECK(x[0] == 0);
  accumulate();
  opt.step();
  const float once = x[0];
  opt.begin({.samples = 0});
  opt.step();
  CHECK(x[0] == once);
}

// ---- combined sources -----------------------------------------------------------------------------------------------

TEST_CASE("around clipping: a source that is put together wrongly is an error of all ranks that names the parameter") {
  const std::vector<double> rows(12);
  for (int w = 1; w <= 3; ++w) {
    const auto errors = run_ranks(w, [&](threads comm) {
      const bool wrong = comm.rank() == comm.size() - 1;
      std::vector<double> x(4);
      dp_optimizer opt(std::vector<parameter_view<double>>{{"embedding", x}}, dp_options{}, flat{1.0}, std::move(comm),
                       no_noise, undivided, plain, no_accountant{});
      opt.begin({.samples = 3});
      const materialized<double> use(rows.data(), 3, 4);
      opt.gradient_ready(0, tied{use, materialized<double>(rows.data(), wrong ? 2 : 3, 4)});
      opt.step();
    });
    for (const auto& e : errors) {
      CHECK((w == 1 ? holds<invalid_argument>(e) : holds<rank_error>(e)));
      CHECK(error_text(e).find("gradient of 'embedding': tied: the two uses hold different numbers of samples") !=
            std::string::npos);
    }
  }
}

TEST_CASE("around clipping: a tied parameter is clipped by the norm of the sum of its uses") {
  const std::vector<double> rows = {3, 4};
  std::vector<double> x(2);
  dp_optimizer opt(std::vector<parameter_view<double>>{{"x", x}}, dp_options{}, per_layer{2.0}, no_noise, undivided,
                   plain, no_accountant{});
  opt.begin({.samples = 1});
  const materialized<double> use(rows.data(), 1, 2);
  opt.gradient_ready(0, tied{use, use}); // norm 10
  opt.step();
  CHECK(std::hypot(x[0], x[1]) == Approx(2).epsilon(1e-6));
  CHECK(std::hypot(x[0], x[1]) <= 2);
}

TEST_CASE(
    "around clipping: taking a user away moves the sum by no more than the bound, however many records are theirs") {
  const std::vector<isize> offsets = {0, 1, 8, 8, 11, 24};
  std::array<std::vector<double>, 2> rows = {random_numbers<double>(24 * 5, 1), random_numbers<double>(24 * 2, 2)};
  for (auto& r : rows)
    for (double& v : r) v += 0.5; // records of one user agree
  const auto sum_without = [&](isize user) {
    std::vector<double> x(7);
    const std::span<double> all(x);
    dp_optimizer opt(std::vector<parameter_view<double>>{{"a", all.first(5)}, {"b", all.last(2)}}, dp_options{},
                     flat{1.5}, no_noise, undivided, plain, no_accountant{});
    std::vector<double> weights(5, 1.0);
    if (user >= 0) weights[static_cast<std::size_t>(user)] = 0;
    opt.begin({.samples = 5, .weights = weights.data()});
    opt.gradient_ready(0, units(materialized<double>(rows[0].data(), 24, 5), offsets));
    opt.gradient_ready(1, units(materialized<double>(rows[1].data(), 24, 2), offsets));
    opt.step();
    return x;
  };
  const std::vector<double> whole = sum_without(-1);
  for (const isize user : {0, 1, 2, 3, 4}) {
    const std::vector<double> without = sum_without(user);
    double squares = 0;
    for (std::size_t k = 0; k < 7; ++k) squares += std::pow(whole[k] - without[k], 2);
    CHECK(std::sqrt(squares) <= 1.5 * (1 + 1e-12));
    if (user == 2) CHECK(squares == 0);                                                 // without a record
    if (user == 1 || user == 4) CHECK(std::sqrt(squares) == Approx(1.5).epsilon(1e-5)); // with many
  }
}

TEST_CASE("around clipping: averaging K views before clipping is not clipping each of them") {
  const std::vector<double> views = {10, 0, -10, 2}; // their mean is (0, 1)
  std::vector<double> x(2);
  dp_optimizer opt(std::vector<parameter_view<double>>{{"x", x}}, dp_options{}, flat{5.0}, no_noise, undivided, plain,
                   no_accountant{});
  opt.begin({.samples = 1});
  opt.gradient_ready(0, averaged_views(materialized<double>(views.data(), 2, 2), 2));
  opt.step();
  CHECK(x[0] == 0);
  CHECK(x[1] == Approx(-1)); // below the bound: as it is
}

TEST_CASE("around clipping: a frozen parameter is not listed: it takes no part in the norm and keeps its value") {
  std::vector<double> x(1), frozen = {5};
  dp_optimizer opt(std::vector<parameter_view<double>>{{"x", x}}, dp_options{}, flat{1.0}, no_noise, undivided, plain,
                   no_accountant{});
  const double g = 0.75;
  opt.begin({.samples = 1});
  opt.gradient_ready(0, materialized<double>(&g, 1, 1));
  opt.step();
  CHECK(x[0] == Approx(-0.75));
  CHECK(frozen[0] == 5);
}

// ---- base optimizers ------------------------------------------------------------------------------------------------

TEST_CASE("around clipping: the average of the parameters is read from its slot, fused or after a hook") {
  for (const bool with_hook : {false, true}) {
    small_model model;
    const small_batch batch(4);
    using averaged = exponential_average<sgd>;
    dp_optimizer opt(model.views(), dp_options{}, flat{1.0}, no_noise, undivided,
                     averaged{.base = {.learning_rate = 0.5}, .decay = 0.6}, no_accountant{});
    if (with_hook) opt.attach_step_hook([](auto&) {});
    std::vector<double> sum(7, 0.0);
    double weights = 0;
    for (int s = 0; s < 4; ++s) {
      opt.begin({.samples = 4});
      batch.hand_over(opt);
      opt.step();
      weights = 0.6 * weights + 1;
      sum = plus(over(sum, 1 / 0.6), model.values());
    }
    std::vector<double> got;
    for (isize p = 0; p < 3; ++p) {
      const auto slot = opt.optimizer_slot(p, averaged::average_slot);
      got.insert(got.end(), slot.begin(), slot.end());
    }
    CHECK(close(got, over(sum, weights)));
    CHECK_FALSE(close(got, model.values()));
  }
}

TEST_CASE("around clipping: a slot or a parameter that does not exist is an error that says what does") {
  small_model model;
  dp_optimizer opt(model.views(), dp_options{}, flat{1.0}, no_noise, undivided, sgd{.momentum = 0.5});
  CHECK(opt.optimizer_slot(2, 0).size() == 1);
  CHECK_THROWS_AS(opt.optimizer_slot(3, 0), invalid_argument);
  CHECK_THROWS_AS(opt.optimizer_slot(-1, 0), invalid_argument);
  CHECK_THROWS_WITH(opt.optimizer_slot(0, 1),
                    "optimizer_slot: parameter 0, slot 1 does not exist; there are 3 parameters with 1 "
                    "slots each");
  small_model other;
  dp_optimizer stateless(other.views(), dp_options{}, flat{1.0}, no_noise, undivided, writes_noise{});
  CHECK_THROWS_AS(stateless.optimizer_slot(0, 0), invalid_argument);
}

TEST_CASE("around clipping: a base optimizer that asks is told the noise on each number of the gradient it gets") {
  for (const bool with_hook : {false, true}) {
    small_model model;
    const small_batch batch(4);
    dp_optimizer opt(model.views(), dp_options{}, per_layer{{0.3, 0.4, 1.2}}, probe_noise{.noise_multiplier = 1.5},
                     expected_batch{per_rank{4}}, writes_noise{}, no_accountant{});
    if (with_hook) opt.attach_step_hook([](auto&) {});
    opt.begin({.samples = 4});
    batch.hand_over(opt);
    opt.step();
    CHECK(close(model.values(), std::vector<double>(7, 1.5 * 1.3 / 4)));
    CHECK(opt.noise_std() == Approx(1.5 * 1.3 / 4));
  }
}

TEST_CASE("around clipping: scale, then privatize: where nothing is clipped the base optimizer trains as without") {
  using stp = scale_then_privatize<sgd>;
  small_model scaled_model, plain_model;
  const sgd base{.learning_rate = 0.1, .momentum = 0.9};
  dp_optimizer scaled(scaled_model.views(), dp_options{}, flat{1e9}, no_noise, undivided,
                      stp{.base = base, .beta = 0.8}, no_accountant{});
  dp_optimizer direct(plain_model.views(), dp_options{}, flat{1e9}, no_noise, undivided, base, no_accountant{});
  for (int s = 0; s < 5; ++s) {
    const small_batch batch(4, s + 1);
    scaled.begin({.samples = 4});
    for (isize p = 0; p < 3; ++p)
      scaled.gradient_ready(p, preconditioned(batch.source(p), scaled.optimizer_slot(p, stp::divisor_slot)));
    scaled.step();
    direct.begin({.samples = 4});
    batch.hand_over(direct);
    direct.step();
    CHECK(close(scaled_model.values(), plain_model.values()));
  }
  CHECK(scaled.optimizer_slot(0, stp::divisor_slot)[0] > 0); // the later steps were divided
}

TEST_CASE("around clipping: scale, then privatize: the bound is on the divided gradients") {
  using stp = scale_then_privatize<sgd>;
  small_model model;
  dp_optimizer opt(model.views(), dp_options{}, flat{0.1}, no_noise, undivided,
                   stp{.base = {.learning_rate = 0.1}, .eps = 1e-3}, no_accountant{});
  for (int s = 0; s < 4; ++s) {
    const small_batch batch(1, s + 1);
    opt.begin({.samples = 1});
    for (isize p = 0; p < 3; ++p)
      opt.gradient_ready(p, preconditioned(batch.source(p), opt.optimizer_slot(p, stp::divisor_slot)));
    opt.step();
    double squares = 0;
    for (const double g : model.released()) squares += g * g;
    CHECK(std::sqrt(squares) == Approx(0.1).epsilon(1e-4)); // of one sample, all of it clipped
    CHECK(std::sqrt(squares) <= 0.1);
  }
}
