// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// hardened_gaussian on the integer grid, end to end. Statistics: two-sided significance 5.7e-7 a check, fixed keys.
#include "support/catch.hpp"

#include "dpopt/accumulation/integer_grid.hpp"
#include "dpopt/clipping/flat.hpp"
#include "dpopt/clipping/per_layer.hpp"
#include "dpopt/communication/threads.hpp"
#include "dpopt/dp_optimizer/dp_optimizer.hpp"
#include "dpopt/gradients/materialized.hpp"
#include "dpopt/noise/scheduled_multiplier.hpp"
#include "dpopt/optimizers/adam.hpp"
#include "dpopt/optimizers/sgd.hpp"
#include "dpopt/sampling/token.hpp"
#include "dpopt/sodium/hardened_gaussian.hpp"
#include "support/ranks.hpp"
#include "support/statistics.hpp"
#include "support/toy_training.hpp"

#include <cmath>
#include <cstddef>
#include <cstdint>
#include <random>
#include <string>
#include <utility>
#include <vector>

using namespace dpopt;
using namespace dpopt::test;

namespace {

/// A root that always draws the same key, which no release may do: so that runs can be compared.
struct known_key : hardened_gaussian {
  explicit known_key(double multiplier_given) : hardened_gaussian{multiplier_given, {}} {}
  void draw_secret() {
    int next = 1;
    for (std::byte& b : secret()) b = static_cast<std::byte>(next++);
  }
};

constexpr isize samples = 23;
constexpr isize steps = 3;
constexpr double bound = 0.6;

template <class Placed, class When, class C>
auto make(const std::vector<parameter_view<double>>& views, C comm, double multiplier) {
  return dp_optimizer(views, dp_options{.bucket_elements = 16}, per_layer{bound}, integer_grid{}, std::move(comm),
                      Placed{}, When{}, known_key{multiplier}, expected_batch{across_ranks{double{samples}}},
                      sgd{.learning_rate = 0.5, .momentum = 0.9});
}

template <class Placed, class When>
toy_result<double> on_one_rank(double multiplier) {
  return toy_train<double>(
      steps, [&](const auto& views) { return make<Placed, When>(views, serial{}, multiplier); },
      [](isize) { return all_at_once(samples); });
}

template <class Placed, class When>
void has_the_same_bits_on_several_ranks() {
  const toy_result<double> one = on_one_rank<Placed, When>(0.8);
  CHECK(distance(one, on_one_rank<Placed, When>(0)) > 1e-3); // there is noise
  for (int ranks = 2; ranks <= 5; ++ranks) {
    std::vector<toy_result<double>> by_rank(static_cast<std::size_t>(ranks));
    rethrow_first(run_ranks(ranks, [&](threads comm) {
      const int rank = comm.rank();
      by_rank[static_cast<std::size_t>(rank)] = [&] {
        toy_model<double> model(toy_sizes());
        auto opt = make<Placed, When>(model.views(), std::move(comm), 0.8);
        toy_feeder<double> feeder;
        toy_result<double> out;
        for (isize s = 0; s < steps; ++s) {
          feeder.feed(opt, s, uneven_share(samples, s, rank, ranks),
                      static_cast<std::uint64_t>(100 * s + 10 * rank + 1));
          opt.step();
          out.released.push_back(model.all_gradients());
        }
        out.values = model.all_values();
        return out;
      }();
    }));
    for (const toy_result<double>& r : by_rank) CHECK(distance(r, one) == 0);
  }
}

/// One parameter of many elements whose samples add nothing.
struct still_parameter {
  std::vector<double> value, gradient, zeros;
  std::vector<parameter_view<double>> views;

  explicit still_parameter(std::size_t n) : value(n), gradient(n), zeros(n) {
    views.push_back({"weight", value, gradient});
  }
  template <class Opt>
  void step(Opt& opt) const {
    opt.begin({.samples = 1});
    opt.gradient_ready(0, materialized<double>(zeros.data(), 1, std::ssize(zeros)));
    opt.step();
  }
};

} // namespace

TEMPLATE_TEST_CASE("1 to 5 ranks release the same bits, noise included: replicated", "", as_ready, at_step) {
  has_the_same_bits_on_several_ranks<replicated, TestType>();
}
TEMPLATE_TEST_CASE("1 to 5 ranks release the same bits, noise included: root_before_reduction", "", as_ready, at_step) {
  has_the_same_bits_on_several_ranks<root_before_reduction, TestType>();
}

TEST_CASE("both placements release the same bits") {
  CHECK(distance(on_one_rank<replicated, as_ready>(0.8), on_one_rank<root_before_reduction, at_step>(0.8)) == 0);
}

TEST_CASE("the release has std multiplier x sensitivity / divisor, and is a multiple of the unit before the division") {
  for (const neighbouring relation : {neighbouring::add_remove, neighbouring::replace_one})
    for (const double c : {1.0, 0.37}) {
      const still_parameter model(40000);
      dp_optimizer opt(model.views, dp_options{.relation = relation}, flat{c}, integer_grid{}, known_key{1.3},
                       expected_batch{across_ranks{8}}, sgd{.learning_rate = 0});
      model.step(opt);
      const double std = 1.3 * c * (relation == neighbouring::replace_one ? 2 : 1) / 8;
      CHECK(opt.noise_std() == Approx(std).epsilon(1e-14));
      std::vector<double> x;
      for (const double g : model.gradient) x.push_back(g / std);
      for (int k = 1; k <= 4; ++k) CHECK(std::abs(moment_score(x, k)) < unlikely);
      CHECK(normal_distance(x) < unlikely_distance);
      integer_grid grid;
      grid.resize(1, c);
      for (const double g : model.gradient) REQUIRE(std::remainder(g * 8, grid.unit()) == 0); // 8 is a power of two
    }
}

TEST_CASE("noise on a coarse grid is discrete: whole units only") {
  const still_parameter model(2000);
  dp_optimizer opt(model.views, dp_options{}, flat{0.99}, integer_grid{2}, known_key{0.5}, unscaled{},
                   sgd{.learning_rate = 0});
  model.step(opt); // the unit is 1 / 4, sigma 1.98 units
  double squares = 0;
  for (const double g : model.gradient) {
    REQUIRE(g * 4 == std::round(g * 4));
    squares += g * g;
  }
  CHECK(std::sqrt(squares / 2000) == Approx(0.495).epsilon(0.1)); // 6 standard errors
}

TEST_CASE("the accountant is told the kind: integer orders only, also under a schedule") {
  const auto spent = [](auto noise) {
    const still_parameter model(3);
    dp_optimizer opt(model.views, dp_options{}, flat{1.0}, integer_grid{}, noise, unscaled{}, sgd{.learning_rate = 0});
    opt.begin({.samples = 1, .token = {sampling_scheme::poisson, 0.2, 0}});
    opt.gradient_ready(0, materialized<double>(model.zeros.data(), 1, 3));
    opt.step();
    return std::pair(opt.accountant().history().at(0).kind, opt.epsilon(1e-5));
  };
  rdp_accountant discrete;
  discrete.record({.noise_multiplier = 0.5, .sampling_rate = 0.2, .kind = noise_kind::discrete_gaussian});
  CHECK(spent(known_key{0.5}) == std::pair(noise_kind::discrete_gaussian, discrete.epsilon(1e-5)));
  CHECK(spent(scheduled_multiplier{known_key{0.5}, exponential_decay{0.9}}) ==
        std::pair(noise_kind::discrete_gaussian, discrete.epsilon(1e-5)));
  rdp_accountant smooth;
  smooth.record({.noise_multiplier = 0.5, .sampling_rate = 0.2});
  CHECK(spent(counter_gaussian{.noise_multiplier = 0.5}) == std::pair(noise_kind::gaussian, smooth.epsilon(1e-5)));
  CHECK(smooth.epsilon(1e-5) < discrete.epsilon(1e-5));
}

TEST_CASE("real keys: two runs differ, nothing is reproducible, and multiplier 0 adds nothing") {
  const auto released = [](double multiplier) {
    const still_parameter model(100);
    dp_optimizer opt(model.views, dp_options{}, flat{1.0}, integer_grid{}, hardened_gaussian{multiplier}, unscaled{},
                     sgd{.learning_rate = 0});
    model.step(opt);
    CHECK_FALSE(opt.reproducible());
    CHECK(opt.describe().find("hardened_gaussian") != std::string::npos);
    return model.gradient;
  };
  CHECK(released(1) != released(1));
  CHECK(released(0) == std::vector<double>(100, 0.0));
}

TEST_CASE("a std that the sampler cannot draw is refused when the optimizer is made") {
  const still_parameter model(3);
  const auto with = [&](integer_grid grid, double multiplier) {
    dp_optimizer(model.views, dp_options{}, flat{1.0}, grid, hardened_gaussian{multiplier}, unscaled{});
  };
  CHECK_NOTHROW(with(integer_grid{}, 1000));
  CHECK_THROWS_AS(with(integer_grid{}, 3000), invalid_argument);
  CHECK_THROWS_WITH(with(integer_grid{50, 4096}, 1),
                    Catch::Contains("fewer fraction_bits or a smaller noise multiplier"));
  CHECK_NOTHROW(with(integer_grid{40, 4096}, 1));
}

TEST_CASE("a model of the size of the digits demo learns under hardened noise") {
  // Linear regression with 4810 weights of which 40 matter: sum of squares over 64 records a step, per-sample gradients
  // (prediction - target) x input. Noise is what epsilon below 8 needs at these 60 full batches.
  constexpr isize weights = 4810;
  constexpr isize records = 64;
  std::mt19937_64 random(3);
  const auto uniform = [&] { return static_cast<double>(random() >> 11) * 0x1p-52 - 1; };
  std::vector<double> inputs(static_cast<std::size_t>(records * weights)), targets;
  for (isize i = 0; i < records; ++i) {
    double target = 0;
    for (isize k = 0; k < 40; ++k) target += 0.5 * (inputs[static_cast<std::size_t>(i * weights + k)] = uniform());
    targets.push_back(target);
  }
  std::vector<double> value(static_cast<std::size_t>(weights)), gradient(value.size());
  const std::vector<parameter_view<double>> views{{"weights", value, gradient}};
  dp_optimizer opt(views, dp_options{}, flat{1.0}, integer_grid{}, known_key{6.0},
                   expected_batch{across_ranks{double{records}}}, adam{.learning_rate = 0.03});
  std::vector<double> rows(inputs.size());
  const auto loss_and_gradients = [&] {
    double loss = 0;
    for (isize i = 0; i < records; ++i) {
      const auto row = static_cast<std::size_t>(i * weights);
      double error = -targets[static_cast<std::size_t>(i)];
      for (std::size_t k = 0; k < 40; ++k) error += inputs[row + k] * value[k];
      loss += error * error;
      for (std::size_t k = 0; k < 40; ++k) rows[row + k] = error * inputs[row + k];
    }
    return loss / records;
  };
  const double before = loss_and_gradients();
  for (int s = 0; s < 60; ++s) {
    opt.begin({.samples = records});
    opt.gradient_ready(0, materialized<double>(rows.data(), records, weights));
    opt.step();
    loss_and_gradients();
  }
  INFO(loss_and_gradients() / before);
  CHECK(loss_and_gradients() < before / 2);
  CHECK(opt.epsilon(1e-5) < 8);
  CHECK(opt.epsilon(1e-5) > 6);
}
