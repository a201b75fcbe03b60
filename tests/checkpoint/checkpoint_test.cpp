// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// Runs that stop and go on.
#include "support/catch.hpp"

#include "dpopt/checkpoint/checkpoint.hpp"
#include "dpopt/checkpoint/ledgered.hpp"
#include "dpopt/clipping/adaptive.hpp"
#include "dpopt/clipping/per_layer.hpp"
#include "dpopt/clipping/scheduled.hpp"
#include "dpopt/noise/banded.hpp"
#include "dpopt/noise/correlated.hpp"
#include "dpopt/noise/scheduled_multiplier.hpp"
#include "dpopt/optimizers/adam.hpp"
#include "dpopt/optimizers/adam_bc.hpp"
#include "dpopt/optimizers/exponential_average.hpp"
#include "dpopt/sampling/poisson.hpp"
#include "dpopt/sodium/seed_gaussian.hpp"
#include "support/probes.hpp"
#include "support/ranks.hpp"
#include "support/recording_noise.hpp"
#include "support/temporary_file.hpp"

#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

using namespace dpopt;
using namespace dpopt::test;

namespace {

constexpr isize batch_size_here = 3;

template <class Opt>
void feed_and_step(Opt& opt, sampling_token token = {}) {
  const small_batch batch(batch_size_here);
  opt.begin({.samples = batch_size_here, .token = token});
  batch.hand_over(opt);
  opt.step();
}

/// A clipper with a state of its own, Adam's state, a ledger: everything a record holds.
template <class Noise = counter_gaussian>
struct learning_run {
  small_model model;
  dp_optimizer<double, adaptive<per_layer>, Noise, adam, ledgered<>, expected_batch> opt;
  learning_run(const std::string& ledger_path, Noise noise)
      : opt(model.views(), dp_options{},
            adaptive{per_layer{{0.5, 0.7, 0.9}}, {.count_noise_std = 8, .expected_batch_size = per_rank(3)}},
            std::move(noise), adam{.learning_rate = 0.1}, ledgered{ledger_path}, expected_batch{per_rank(3)}) {}
};

/// A user's mechanism that knows no fresh incarnation.
struct once_seeded {
  using role = roles::noise;
  static constexpr bool addressable = true;
  counter_gaussian inner;
  [[nodiscard]] double multiplier() const { return inner.multiplier(); }
  void validate() const { inner.validate(); }
  void draw_secret() { inner.draw_secret(); }
  [[nodiscard]] std::span<std::byte> secret() { return inner.secret(); }
  [[nodiscard]] bool reproducible() const { return true; }
  void add(const address& where, double std, double* x, isize count) const { inner.add(where, std, x, count); }
};

template <class Opt>
std::vector<double> bounds_of(const Opt& opt) {
  return opt.clipper().bounds();
}

} // namespace

TEST_CASE("The latest checkpoint goes on bit by bit, as if the run had never stopped") {
  const temporary_file whole, parts;
  learning_run<> reference(whole.path, counter_gaussian{0.5, 11});
  for (int i = 0; i < 6; ++i) feed_and_step(reference.opt);

  std::vector<std::byte> record;
  {
    learning_run<> first(parts.path, counter_gaussian{0.5, 11});
    for (int i = 0; i < 2; ++i) feed_and_step(first.opt);
    record = save(first.opt);
  }
  learning_run<> second(parts.path, counter_gaussian{0.5, 11});
  CHECK(resume(second.opt, record) == resumed::bit_by_bit);
  CHECK(second.opt.releases() == 2);
  CHECK(second.opt.updates() == 2);
  for (int i = 2; i < 6; ++i) feed_and_step(second.opt);
  CHECK(second.model.values() == reference.model.values());
  CHECK(bounds_of(second.opt) == bounds_of(reference.opt));
  CHECK(second.opt.epsilon(1e-5) == reference.opt.epsilon(1e-5));
  CHECK(second.opt.noise_std() == reference.opt.noise_std());
}

TEST_CASE("A secret from the operating system goes on as well") {
  const temporary_file file;
  std::vector<std::byte> record, secret;
  {
    learning_run<> first(file.path, counter_gaussian{0.5});
    feed_and_step(first.opt);
    record = save(first.opt);
    const auto bytes = first.opt.noise().secret();
    secret.assign(bytes.begin(), bytes.end());
  }
  learning_run<> second(file.path, counter_gaussian{0.5});
  const auto here = [&] {
    const auto bytes = second.opt.noise().secret();
    return std::vector<std::byte>(bytes.begin(), bytes.end());
  };
  CHECK(here() != secret);
  CHECK(resume(second.opt, record) == resumed::bit_by_bit);
  CHECK(here() == secret);
}

TEST_CASE("A checkpoint older than the ledger is refused, or goes on with all costs and fresh noise") {
  const temporary_file file;
  std::vector<std::byte> record;
  double spent = 0;
  std::vector<double> at_the_record, after_the_step;
  {
    learning_run<> first(file.path, counter_gaussian{0.5, 11});
    feed_and_step(first.opt);
    record = save(first.opt);
    at_the_record = first.model.values();
    feed_and_step(first.opt); // released, then the process dies
    after_the_step = first.model.values();
    spent = first.opt.epsilon(1e-5);
  }
  {
    learning_run<> second(file.path, counter_gaussian{0.5, 11});
    const auto untouched = second.model.values();
    CHECK_THROWS_WITH(resume(second.opt, record), contains_text("releases made after this checkpoint"));
    CHECK(second.model.values() == untouched);
    CHECK(second.opt.releases() == 0);
  }
  learning_run<> second(file.path, counter_gaussian{0.5, 11});
  CHECK(resume(second.opt, record, {.resume_charged = true}) == resumed::fresh_noise);
  CHECK(second.model.values() == at_the_record);
  CHECK(second.opt.epsilon(1e-5) == spent);
  feed_and_step(second.opt);
  CHECK(second.model.values() != after_the_step); // the same step, but never the same noise
  CHECK(second.opt.epsilon(1e-5) > spent);
}

TEST_CASE("Only one run goes on from a checkpoint") {
  const temporary_file file;
  std::vector<std::byte> record;
  {
    learning_run<> first(file.path, counter_gaussian{0.5, 11});
    feed_and_step(first.opt);
    record = save(first.opt);
  }
  {
    learning_run<> second(file.path, counter_gaussian{0.5, 11});
    CHECK(resume(second.opt, record) == resumed::bit_by_bit);
  } // dies before its first step, which nobody can know
  learning_run<> third(file.path, counter_gaussian{0.5, 11});
  CHECK_THROWS_WITH(resume(third.opt, record), contains_text("another run went on from it"));
}

TEST_CASE("Without a ledger noise is always fresh, and what was spent is what the record says") {
  const auto run = [](small_model& model) {
    return std::make_unique<dp_optimizer<double, flat, counter_gaussian, unscaled>>(
        model.views(), dp_options{}, flat{1.0}, counter_gaussian{0.5, 11}, unscaled{});
  };
  small_model one, two, three;
  auto first = run(one);
  feed_and_step(*first);
  const auto record = save(*first);
  feed_and_step(*first);
  auto second = run(two);
  CHECK(resume(*second, record) == resumed::fresh_noise);
  auto third = run(three);
  CHECK(resume(*third, record) == resumed::fresh_noise);
  feed_and_step(*second);
  feed_and_step(*third);
  CHECK(second->epsilon(1e-5) == first->epsilon(1e-5));
  CHECK(two.values() != one.values());
  CHECK(two.values() != three.values()); // two branches of one record share no noise either
}

TEST_CASE("A record goes on with the same momentum, whether it or the run that takes it over keeps the buffer") {
  struct run {
    small_model model;
    dp_optimizer<double, flat, counter_gaussian, unscaled> opt{model.views(), dp_options{}, flat{1.0},
                                                               counter_gaussian{0.5, 11}, unscaled{}};
    explicit run(double momentum) { opt.base_optimizer().momentum = momentum; }
    std::vector<double> buffer() const {
      const auto slot = opt.optimizer_slot(0, 0);
      return {slot.begin(), slot.end()};
    }
  };
  run with(0.9), without(0);
  const auto fresh = save(with.opt); // of a run that has made no step
  for (run* r : {&with, &without}) feed_and_step(r->opt);
  CHECK_THROWS_WITH(without.buffer(), contains_text("optimizer_slot: slot 0 is not kept; sgd("));
  const auto zeros = std::vector<double>(with.buffer().size(), 0.0);
  CHECK(with.buffer() != zeros);
  for (const double momentum : {0.9, 0.0}) {
    run next(momentum), from_none(momentum);
    resume(next.opt, save(with.opt));
    CHECK(next.buffer() == with.buffer());
    resume(from_none.opt, save(without.opt));
    feed_and_step(from_none.opt);
    if (momentum > 0) CHECK(from_none.buffer() != zeros);
    else CHECK_THROWS_AS(from_none.buffer(), invalid_argument);
  }
  feed_and_step(with.opt);
  with.opt.base_optimizer().momentum = 0; // kept from now on, untouched
  const auto kept = with.buffer();
  feed_and_step(with.opt);
  CHECK(with.buffer() == kept);
  run empty(0);
  resume(empty.opt, fresh);
  CHECK_THROWS_AS(empty.buffer(), invalid_argument);
}

TEST_CASE("No number is drawn twice by a run, what goes on from it, and its branches; learned counts included") {
  const temporary_file file;
  const recording_noise noise{{.noise_multiplier = 0.5, .seed = 11}}; // one user's seed and one record for all
  const auto steps = [](auto& run, int n) {
    for (int i = 0; i < n; ++i) {
      run.opt.begin({.samples = 2, .last = false});
      small_batch(2, 2).hand_over(run.opt);
      feed_and_step(run.opt);
    }
  };
  std::vector<std::byte> early, late;
  {
    learning_run run(file.path, noise);
    steps(run, 2);
    early = save(run.opt);
    steps(run, 1); // in no record
  }
  {
    learning_run branch(file.path, noise);
    CHECK(resume(branch.opt, early, {.resume_charged = true}) == resumed::fresh_noise);
    steps(branch, 2);
    late = save(branch.opt);
  }
  {
    learning_run going_on(file.path, noise);
    CHECK(resume(going_on.opt, late) == resumed::bit_by_bit);
    steps(going_on, 2);
  }
  learning_run other_branch(file.path, noise);
  CHECK(resume(other_branch.opt, early, {.resume_charged = true}) == resumed::fresh_noise);
  steps(other_branch, 2);

  const record& r = *noise.into;
  CHECK(r.distinct());
  CHECK(r.count_of(purpose::gradient) == 9 * small_model::total);
  CHECK(r.count_of(purpose::side_scalars) == 9 * 3);
  CHECK(r.keys().size() == 3); // the run's, and one for each branch
}

TEST_CASE("A mechanism that would take its user's seed again is refused; seed_gaussian makes another secret of it") {
  small_model one, two;
  const auto run = [](small_model& model, auto noise) {
    return std::make_unique<dp_optimizer<double, flat, decltype(noise), unscaled>>(model.views(), dp_options{},
                                                                                   flat{1.0}, noise, unscaled{});
  };
  {
    const once_seeded noise{{.noise_multiplier = 0.5, .seed = 11}};
    const auto record = save(*run(one, noise));
    auto second = run(two, noise);
    CHECK_THROWS_AS(resume(*second, record), randomness_error);
    CHECK_THROWS_WITH(resume(*second, record), contains_text("needs renew_secret()"));
  }
  const seed_gaussian noise{.noise_multiplier = 0.5, .generator_seed = 11};
  const auto record = save(*run(one, noise));
  auto second = run(two, noise);
  CHECK(resume(*second, record) == resumed::fresh_noise);
}

TEST_CASE("Schedules go on where they were, charged as they were") {
  const auto run = [](small_model& model) {
    return std::make_unique<dp_optimizer<double, scheduled<flat, exponential_decay>,
                                         scheduled_multiplier<counter_gaussian, step_decay>, unscaled>>(
        model.views(), dp_options{}, scheduled{flat{2}, exponential_decay{0.5}},
        scheduled_multiplier{counter_gaussian{0.5}, step_decay{2, 3.0}}, unscaled{});
  };
  small_model one, two;
  auto first = run(one);
  for (int i = 0; i < 3; ++i) feed_and_step(*first);
  const auto record = save(*first);
  auto second = run(two);
  resume(*second, record);
  CHECK(second->sensitivity() == 2 * 0.125);
  CHECK(second->noise().multiplier() == 1.5);
  feed_and_step(*first);
  feed_and_step(*second);
  CHECK(second->sensitivity() == first->sensitivity());
  CHECK(second->epsilon(1e-5) == first->epsilon(1e-5));
}

TEST_CASE("Correlated noise goes on bit by bit, or is charged as a second run") {
  const auto noise = [] {
    return correlated(counter_gaussian{4.0, 5}, banded(square_root_coefficients(3)), run_plan::cyclic(20, 10));
  };
  using noise_type = decltype(noise());
  const temporary_file whole, parts;
  const auto run = [&](small_model& model, const std::string& path) {
    return std::make_unique<dp_optimizer<double, flat, noise_type, ledgered<>, unscaled>>(
        model.views(), dp_options{}, flat{1.0}, noise(), ledgered{path}, unscaled{});
  };
  small_model one, two, three;
  auto reference = run(one, whole.path);
  for (int i = 0; i < 5; ++i) feed_and_step(*reference);
  auto first = run(two, parts.path);
  for (int i = 0; i < 2; ++i) feed_and_step(*first);
  const auto record = save(*first);
  first.reset();
  two = {};
  auto second = run(two, parts.path);
  CHECK(resume(*second, record) == resumed::bit_by_bit);
  for (int i = 2; i < 5; ++i) feed_and_step(*second);
  CHECK(two.values() == one.values());
  CHECK(second->accountant().history().size() == 1);
  CHECK(second->accountant().history()[0].count == 1);
  second.reset();

  auto third = run(three, parts.path);
  CHECK(resume(*third, record, {.resume_charged = true}) == resumed::fresh_noise);
  feed_and_step(*third);
  CHECK(third->accountant().history()[0].count == 2); // two mechanisms over whole runs
}

TEST_CASE("A sampler goes on with its optimizer, and a fresh run samples afresh") {
  const temporary_file whole, parts;
  const auto sampler = [] { return poisson_sampler(50, 0.5, counter_bits{3}); };
  const auto step = [](auto& run, auto& s) {
    const auto drawn = s.next();
    feed_and_step(run.opt, drawn.token);
    return drawn.records;
  };
  learning_run<> reference(whole.path, counter_gaussian{0.5, 11});
  auto s = sampler();
  std::vector<std::vector<isize>> expected;
  for (int i = 0; i < 4; ++i) expected.push_back(step(reference, s));

  std::vector<std::byte> record;
  {
    learning_run<> first(parts.path, counter_gaussian{0.5, 11});
    auto of_first = sampler();
    for (int i = 0; i < 2; ++i) step(first, of_first);
    record = save(first.opt, of_first);
  }
  {
    learning_run<> second(parts.path, counter_gaussian{0.5, 11});
    CHECK_THROWS_WITH(resume(second.opt, record), contains_text("saved with 1 companions"));
    auto of_second = sampler();
    CHECK(resume(second.opt, record, of_second) == resumed::bit_by_bit);
    CHECK(step(second, of_second) == expected[2]);
    CHECK(step(second, of_second) == expected[3]);
    CHECK(second.model.values() == reference.model.values());
    CHECK(second.opt.reproducible());
  }
  learning_run<> third(parts.path, counter_gaussian{0.5, 11});
  auto of_third = sampler();
  CHECK(resume(third.opt, record, {.resume_charged = true}, of_third) == resumed::fresh_noise);
  CHECK(step(third, of_third) == expected[0]); // as constructed: here from the user's seed
}

TEST_CASE("A record that does not fit is refused by the name of what differs, and nothing changes") {
  const auto record_of = [](double bound) {
    small_model model;
    dp_optimizer opt(model.views(), dp_options{}, flat{bound}, counter_gaussian{0.5}, unscaled{}, adam{});
    return save(opt);
  };
  small_model model;
  dp_optimizer opt(model.views(), dp_options{}, flat{1.0}, counter_gaussian{0.5}, unscaled{},
                   adam{.learning_rate = 7}); // may change
  CHECK_THROWS_WITH(resume(opt, record_of(2.0)), contains_text("clipper") && contains_text("flat"));
  auto damaged = record_of(1.0);
  damaged[damaged.size() / 2] ^= std::byte{1};
  CHECK_THROWS_WITH(resume(opt, damaged), contains_text("checksum"));
  CHECK(resume(opt, record_of(1.0)) == resumed::fresh_noise);

  feed_and_step(opt);
  CHECK_THROWS_WITH(resume(opt, record_of(1.0)), contains_text("made steps already"));
  opt.begin({.samples = 0});
  CHECK_THROWS_WITH(save(opt), contains_text("between steps"));
}

TEST_CASE("A record of another optimizer inside the same decorator is refused; options inside may change") {
  small_model model;
  const auto make = [&model](auto inner, double decay) {
    return dp_optimizer(model.views(), dp_options{}, flat{1.0}, counter_gaussian{0.5}, unscaled{},
                        exponential_average<decltype(inner)>{inner, decay});
  };
  std::vector<std::byte> record;
  {
    auto opt = make(adam{.learning_rate = 0.1}, 0.9);
    feed_and_step(opt);
    record = save(opt);
  }
  {
    auto other = make(adam_bc{}, 0.9); // as many slots, of another meaning
    CHECK_THROWS_WITH(resume(other, record), contains_text("base optimizer 'exponential_average(adam', this run has "
                                                           "'exponential_average(adam_bc'"));
  }
  auto same = make(adam{.learning_rate = 0.2}, 0.99);
  CHECK(resume(same, record) == resumed::fresh_noise);
}

TEST_CASE("Every rank goes on from the root's record, or none does") {
  const temporary_file file;
  using optimizer = dp_optimizer<double, flat, counter_gaussian, ledgered<>, unscaled, threads>;
  const int W = 3;
  std::vector<std::vector<double>> values(W);
  std::vector<double> epsilons(W);
  std::vector<std::byte> record;
  const auto train = [&](bool from_record, int steps, resume_options how = {}) {
    return run_ranks(W, [&, how](threads ranks) {
      const int rank = ranks.rank();
      small_model model;
      optimizer opt(model.views(), dp_options{}, flat{1.0}, counter_gaussian{0.5}, ledgered{file.path}, unscaled{},
                    std::move(ranks));
      if (from_record) resume(opt, rank == 0 ? std::span<const std::byte>(record) : std::span<const std::byte>{}, how);
      for (int i = 0; i < steps; ++i) feed_and_step(opt);
      values[static_cast<std::size_t>(rank)] = model.values();
      epsilons[static_cast<std::size_t>(rank)] = opt.epsilon(1e-5);
      if (rank == 0 && !from_record) record = save(opt);
    });
  };
  rethrow_first(train(false, 2));
  const auto saved = values[0];
  rethrow_first(train(true, 1));
  CHECK(values[0] != saved);
  CHECK(values[1] == values[0]);
  CHECK(values[2] == values[0]);
  CHECK(epsilons[1] == epsilons[0]);
  CHECK(epsilons[2] == epsilons[0]);
  rdp_accountant three;
  three.record({0.5, 1, 3});
  CHECK(epsilons[0] == three.epsilon(1e-5));
  const auto errors = train(true, 1); // the record is older than the ledger now
  for (const auto& error : errors) CHECK_THAT(error_text(error), contains_text("after this checkpoint"));
}
