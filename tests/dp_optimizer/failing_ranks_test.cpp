// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// What other ranks and later steps may see when something goes wrong on one rank.
#include "support/catch.hpp"
#include "support/ranks.hpp"

#include "dpopt/clipping/per_layer.hpp"
#include "dpopt/dp_optimizer/dp_optimizer.hpp"
#include "dpopt/gradients/materialized.hpp"

#include <cmath>
#include <limits>
#include <memory>

using namespace dpopt;
using dpopt::test::error_text;
using dpopt::test::run_ranks;

namespace {

/// One rank that pretends to be rank `me` of two and keeps what it sends; fails on demand.
struct eavesdropped {
  struct wire {
    std::vector<std::vector<double>> sent;
    bool fail = false;
  };
  using role = roles::communicator;
  struct request {};
  int me = 0;
  std::shared_ptr<wire> out = std::make_shared<wire>();

  [[nodiscard]] int rank() const { return me; }
  [[nodiscard]] int size() const { return 1; }
  void broadcast(std::byte*, isize, int) {}
  template <class V>
  request start_sum(V* x, isize n) {
    if (out->fail) throw communication_error("the wire broke");
    out->sent.emplace_back(x, x + n);
    return {};
  }
  void wait(request&) {}
};

struct two_parameters {
  std::vector<double> w{1, 2}, b{3};
  std::vector<double> gw{0.5, 0.0}, gb{0.25};
  [[nodiscard]] std::vector<parameter_view<double>> views() { return {{"w", w}, {"b", b}}; }
};

} // namespace

TEMPLATE_TEST_CASE("a rank that cannot add its noise sends nothing that means anything", "", root_before_reduction,
                   independent_shares) {
  two_parameters m;
  eavesdropped comm;
  dp_optimizer opt(m.views(), dp_options{.bucket_elements = 1}, per_layer{1.0}, counter_gaussian{.noise_multiplier = 5},
                   TestType{}, expected_batch{1.0}, eavesdropped(comm));
  comm.out->sent.clear();
  opt.begin({.samples = 1});
  opt.gradient_ready(0, materialized(m.gw.data(), 1, 2)); // 'b' is missing: the step must fail
  CHECK_THROWS_AS(opt.step(), state_error);
  REQUIRE(comm.out->sent.size() == 3); // b, w, control
  for (std::size_t k = 0; k < 2; ++k)
    for (const double x : comm.out->sent[k]) CHECK(std::isnan(x));
}

TEST_CASE("a noise multiplier that was made meaningless between steps fails before a sum leaves its rank") {
  const double wrong = GENERATE(std::numeric_limits<double>::quiet_NaN(), -1.0, HUGE_VAL);
  two_parameters m;
  eavesdropped comm;
  dp_optimizer opt(m.views(), dp_options{.bucket_elements = 1}, per_layer{1.0}, counter_gaussian{.noise_multiplier = 5},
                   root_before_reduction{}, expected_batch{1.0}, eavesdropped(comm));
  opt.noise().noise_multiplier = wrong;
  comm.out->sent.clear();
  opt.begin({.samples = 1});
  opt.gradient_ready(0, materialized(m.gw.data(), 1, 2));
  opt.gradient_ready(1, materialized(m.gb.data(), 1, 1));
  CHECK_THROWS_WITH(opt.step(), contains_text("noise_multiplier"));
  REQUIRE(comm.out->sent.size() == 3); // b, w, control
  for (std::size_t k = 0; k < 2; ++k)
    for (const double x : comm.out->sent[k]) CHECK(std::isnan(x));
}

TEST_CASE("after the communicator failed, nothing goes on") {
  two_parameters m;
  eavesdropped comm;
  dp_optimizer opt(m.views(), dp_options{}, per_layer{1.0}, counter_gaussian{.noise_multiplier = 5},
                   root_before_reduction{}, expected_batch{1.0}, eavesdropped(comm));
  const auto before = m.w;
  comm.out->sent.clear();
  comm.out->fail = true;
  opt.begin({.samples = 1});
  opt.gradient_ready(0, materialized(m.gw.data(), 1, 2));
  opt.gradient_ready(1, materialized(m.gb.data(), 1, 1));
  CHECK_THROWS_WITH(opt.step(), "the wire broke");
  comm.out->fail = false; // too late: nobody knows what the other ranks got
  CHECK_THROWS_AS(opt.step(), communication_error);
  opt.begin({.samples = 1});
  CHECK_THROWS_AS(opt.step(), communication_error);
  CHECK(comm.out->sent.empty());
  CHECK(m.w == before);
}

TEST_CASE("bounds whose noise would vanish are refused, not released without noise") {
  two_parameters m;
  CHECK_THROWS_WITH(dp_optimizer(m.views(), dp_options{}, per_layer{1e-170}, counter_gaussian{.noise_multiplier = 1},
                                 expected_batch{1.0}),
                    contains_text("add up to 0"));
  CHECK_THROWS_WITH(dp_optimizer(m.views(), dp_options{}, per_layer{1e200}, counter_gaussian{.noise_multiplier = 1},
                                 expected_batch{1.0}),
                    contains_text("add up to inf"));
  std::vector<float> w{1};
  const std::vector<parameter_view<float>> views{{"w", w}};
  CHECK_THROWS_WITH(
      dp_optimizer(views, dp_options{}, flat{1.0}, counter_gaussian{.noise_multiplier = 1e-45}, expected_batch{1.0}),
      contains_text("that the accumulator's type cannot hold"));
  CHECK_THROWS_WITH( // a float itself, but not what is drawn with it
      dp_optimizer(views, dp_options{}, flat{1.0}, counter_gaussian{.noise_multiplier = 1e38}, expected_batch{1.0}),
      contains_text("that the accumulator's type cannot hold"));
  CHECK_NOTHROW(
      dp_optimizer(views, dp_options{}, flat{1.0}, counter_gaussian{.noise_multiplier = 1e37}, expected_batch{1.0}));
  CHECK_NOTHROW(
      dp_optimizer(views, dp_options{}, flat{1.0}, counter_gaussian{.noise_multiplier = 0}, expected_batch{1.0}));
}

TEST_CASE("the noise of a step is fixed when its first microbatch begins") {
  two_parameters m;
  dp_optimizer opt(m.views(), dp_options{}, per_layer{1.0}, counter_gaussian{.noise_multiplier = 1},
                   expected_batch{1.0});
  const auto feed = [&] {
    opt.begin({.samples = 1});
    opt.gradient_ready(0, materialized(m.gw.data(), 1, 2));
    opt.gradient_ready(1, materialized(m.gb.data(), 1, 1));
  };
  feed();
  opt.noise().noise_multiplier = 2;
  CHECK_THROWS_WITH(opt.step(), contains_text("changed between begin() and step()"));
  feed(); // between steps it may change
  CHECK(opt.step());
  CHECK(opt.noise_std() == Approx(2 * std::sqrt(2.0)));
}

TEST_CASE("a sampler on a user's seed flags the run, though the noise is secret") {
  two_parameters m;
  dp_optimizer opt(m.views(), dp_options{}, per_layer{1.0}, counter_gaussian{.noise_multiplier = 1},
                   expected_batch{1.0});
  const auto step = [&](bool seeded, std::uint64_t draw) {
    opt.begin({.samples = 0, .token = {sampling_scheme::poisson, 0.5, draw, seeded}});
    opt.step();
  };
  step(false, 0);
  CHECK_FALSE(opt.reproducible());
  step(true, 1);
  step(false, 2);
  CHECK(opt.reproducible()); // once known, always known
  CHECK_THAT(opt.privacy_statement(1e-5), contains_text("reproducible run: not a private release"));
}

TEST_CASE("gradient arrays belong to one parameter like values do") {
  two_parameters m;
  std::vector<double> shared(2);
  const std::vector<parameter_view<double>> twice{
      {"w", m.w, shared}, {"b", std::span(m.w).first(0), {}}, {"c", m.gw, shared}};
  CHECK_THROWS_WITH(
      dp_optimizer(twice, dp_options{}, per_layer{1.0}, counter_gaussian{.noise_multiplier = 1}, expected_batch{1.0}),
      contains_text("'c.gradient'"));
  const std::vector<parameter_view<double>> aliased{{"w", m.w, m.w}};
  CHECK_THROWS_AS(
      dp_optimizer(aliased, dp_options{}, per_layer{1.0}, counter_gaussian{.noise_multiplier = 1}, expected_batch{1.0}),
      invalid_argument);
}

TEST_CASE("a whole-parameter optimizer's options are checked like the others'") {
  struct lars {
    using role = roles::base_optimizer;
    double learning_rate = -1;
    void validate() const {
      if (learning_rate < 0) throw invalid_argument("lars: learning_rate is negative");
    }
    void operator()(parameter_update<double>) const {}
  };
  two_parameters m;
  CHECK_THROWS_WITH(dp_optimizer(m.views(), dp_options{}, per_layer{1.0}, counter_gaussian{.noise_multiplier = 1},
                                 expected_batch{1.0}, lars{}),
                    "lars: learning_rate is negative");
}

TEST_CASE("ranks whose learning rates part ways all hear of it, before anything is written") {
  const auto errors = run_ranks(3, [](threads comm) {
    two_parameters m;
    const int me = comm.rank();
    dp_optimizer opt(m.views(), dp_options{}, per_layer{1.0}, counter_gaussian{.noise_multiplier = 1, .seed = 1},
                     expected_batch{1.0}, sgd{.learning_rate = 0.1}, std::move(comm));
    const auto before = m.w;
    opt.begin({.samples = 0});
    opt.step();
    if (me == 2) opt.base_optimizer().learning_rate = 0.2;
    const auto after = m.w;
    opt.begin({.samples = 0});
    try {
      opt.step();
    } catch (...) {
      if (m.w != after || m.w == before) throw std::logic_error("values changed, or the first step did nothing");
      throw;
    }
  });
  for (const auto& e : errors)
    CHECK_THAT(error_text(e), contains_text("ranks differ in what they declared for step 1"));
}
