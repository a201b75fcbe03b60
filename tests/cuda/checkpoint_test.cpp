// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// Runs that stop on a device or a CPU and go on on either, bit by bit.
#include "support/device_ranks.hpp"
#include "support/device_trainer.hpp"

#include "support/catch.hpp"

#include "dpopt/accumulation/integer_grid.hpp"
#include "dpopt/checkpoint/checkpoint.hpp"
#include "dpopt/checkpoint/ledgered.hpp"
#include "dpopt/clipping/adaptive.hpp"
#include "dpopt/clipping/per_layer.hpp"
#include "dpopt/cuda/training_image.hpp"
#include "dpopt/dp_optimizer/dp_optimizer.hpp"
#include "dpopt/optimizers/adam.hpp"
#include "support/ranks.hpp"
#include "support/temporary_file.hpp"
#include "support/toy_training.hpp"

#include <cstddef>
#include <numeric>
#include <string>
#include <utility>
#include <vector>

using namespace dpopt;
using namespace dpopt::test;
using testing::device_ranks;
using testing::device_trainer;
using testing::recording_api;

namespace {

using learning = adaptive<per_layer>;
learning clipper() {
  return {per_layer{.max_grad_norm = 0.5},
          {.count_noise_std = 4.0, .expected_batch_size = across_ranks{8.0}, .greatest_bound = 4}};
}
const counter_gaussian noise{.noise_multiplier = 0.7, .seed = 20};
const expected_batch scaling{.expected_batch_size = across_ranks{8.0}};
const adam base{.learning_rate = 0.05};

using host_optimizer = dp_optimizer<double, learning, counter_gaussian, adam, ledgered<>, expected_batch, integer_grid>;
using deferred_optimizer =
    dp_optimizer<double, learning, counter_gaussian, adam, ledgered<>, expected_batch, integer_grid, at_step>;
using device_optimizer = device_trainer<double, recording_api, learning, counter_gaussian, adam, ledgered<>,
                                        expected_batch, cuda::integer_grid>;

/// Everything that a record holds: bounds that are learned, Adam's state, a ledger.
template <class Opt>
struct run {
  recording_api device;
  toy_model<double> model{toy_sizes()};
  toy_feeder<double> feeder;
  Opt opt;

  explicit run(const std::string& ledger_path) : opt(made(ledger_path)) {}
  void train(isize from, isize to) {
    for (isize s = from; s < to; ++s) {
      feeder.feed(opt, s, {{0, 1, 2}, {3, 4, 5}});
      opt.step();
    }
  }

private:
  Opt made(const std::string& path) {
    if constexpr (std::is_same_v<Opt, device_optimizer>)
      return Opt(model.views(), dp_options{}, device, clipper(), noise, base, ledgered{path}, scaling,
                 cuda::integer_grid{});
    else if constexpr (std::is_same_v<Opt, deferred_optimizer>)
      return Opt(model.views(), dp_options{}, clipper(), noise, base, ledgered{path}, scaling, integer_grid{},
                 at_step{});
    else return Opt(model.views(), dp_options{}, clipper(), noise, base, ledgered{path}, scaling, integer_grid{});
  }
};

template <class First, class Second>
void expect_bit_by_bit(const run<host_optimizer>& whole) {
  const temporary_file file;
  std::vector<std::byte> record;
  double spent = 0;
  {
    run<First> first(file.path);
    first.train(0, 2);
    record = save(first.opt);
    spent = first.opt.epsilon(1e-5);
  }
  run<Second> second(file.path);
  CHECK(second.opt.epsilon(1e-5) == spent); // the ledger knows, whoever wrote it
  CHECK(resume(second.opt, record) == resumed::bit_by_bit);
  CHECK(second.opt.updates() == 2);
  CHECK(second.opt.releases() == 2);
  second.train(2, 4);
  const bool same = second.model.all_values() == whole.model.all_values(); // out of CHECK, which would print them
  CHECK(same);
  CHECK(second.opt.clipper().bounds() == whole.opt.clipper().bounds());
  CHECK(second.opt.epsilon(1e-5) == whole.opt.epsilon(1e-5));
  CHECK(second.opt.noise_std() == whole.opt.noise_std());
}

} // namespace

TEST_CASE("a checkpoint goes on bit by bit from a device to a CPU, back, and between devices") {
  const temporary_file file;
  run<host_optimizer> whole(file.path);
  whole.train(0, 4);
  expect_bit_by_bit<device_optimizer, device_optimizer>(whole);
  expect_bit_by_bit<host_optimizer, device_optimizer>(whole);
  expect_bit_by_bit<device_optimizer, host_optimizer>(whole);
}

TEST_CASE("a run that clipped at_step goes on bit by bit on a device and as_ready, and the reverse") {
  const temporary_file file;
  run<host_optimizer> whole(file.path);
  whole.train(0, 4);
  expect_bit_by_bit<deferred_optimizer, device_optimizer>(whole);
  expect_bit_by_bit<device_optimizer, deferred_optimizer>(whole);
  expect_bit_by_bit<deferred_optimizer, host_optimizer>(whole);
}

TEST_CASE("a device's checkpoint that is older than the ledger goes on with all costs and fresh noise") {
  const temporary_file file;
  std::vector<std::byte> record;
  std::vector<double> at_the_record, after_the_step;
  double spent = 0;
  {
    run<device_optimizer> first(file.path);
    first.train(0, 1);
    record = save(first.opt);
    at_the_record = first.model.all_values();
    first.train(1, 2);
    after_the_step = first.model.all_values();
    spent = first.opt.epsilon(1e-5);
  }
  run<device_optimizer> second(file.path);
  CHECK_THROWS_AS(resume(second.opt, record), state_error);
  CHECK(resume(second.opt, record, resume_options{.resume_charged = true}) == resumed::fresh_noise);
  CHECK(second.opt.epsilon(1e-5) == spent);
  const bool went_back = second.model.all_values() == at_the_record;
  CHECK(went_back);
  second.train(1, 2);
  const bool repeated = second.model.all_values() == after_the_step;
  CHECK_FALSE(repeated);
}

TEST_CASE("a device is saved and resumed between steps only, and a copy that fails is an error of the call") {
  const temporary_file file, other;
  run<device_optimizer> t(file.path), fresh(other.path);
  t.feeder.feed(t.opt, 0, {{0, 1}});
  CHECK_THROWS_WITH(static_cast<void>(save(t.opt)), contains_text("between steps"));
  t.opt.pre_step();
  CHECK_THROWS_WITH(static_cast<void>(save(t.opt)), contains_text("between steps"));
  t.opt.step();
  t.device.fail_next("copy state to host");
  CHECK_THROWS_AS(static_cast<void>(save(t.opt)), cuda::device_error);
  const auto record = save(t.opt);
  CHECK_THROWS_WITH(resume(t.opt, record), contains_text("made steps already"));
  fresh.device.fail_next("copy state to device");
  CHECK_THROWS_AS(resume(fresh.opt, record, resume_options{.resume_charged = true}), cuda::device_error);
  CHECK(fresh.opt.updates() == 0);
  fresh.feeder.feed(fresh.opt, 0, {{0, 1}}); // with values that are nobody's, and nothing charged for them
  CHECK_THROWS_WITH(fresh.opt.step(), contains_text("resume() half-way"));
}

TEST_CASE("the root's bytes resume all ranks' devices") {
  std::vector<std::vector<double>> values(2);
  std::vector<std::byte> record;
  const auto make = [](toy_model<double>& model, recording_api device, threads comm) {
    return device_trainer(model.views(), dp_options{}, device, clipper(), noise, scaling, base, cuda::integer_grid{},
                          device_ranks(std::move(comm)));
  };
  rethrow_first(run_ranks(2, [&](threads comm) {
    const int rank = comm.rank();
    toy_model<double> model(toy_sizes());
    toy_feeder<double> feeder;
    auto opt = make(model, recording_api(rank), std::move(comm));
    feeder.feed(opt, 0, {{rank, 2 + rank}});
    opt.step();
    if (rank == 0) record = save(opt);
    values[static_cast<std::size_t>(rank)] = model.all_values();
  }));
  rethrow_first(run_ranks(2, [&](threads comm) {
    const int rank = comm.rank();
    toy_model<double> model(toy_sizes());
    auto opt = make(model, recording_api(rank), std::move(comm));
    if (resume(opt, rank == 0 ? record : std::vector<std::byte>{}) != resumed::fresh_noise || opt.updates() != 1 ||
        model.all_values() != values[static_cast<std::size_t>(rank)])
      throw std::logic_error("not resumed");
    toy_feeder<double> feeder;
    feeder.feed(opt, 1, {{rank}});
    opt.step();
    values[static_cast<std::size_t>(rank)] = model.all_values();
  }));
  const bool alike = values[0] == values[1];
  CHECK(alike);
}

TEST_CASE("state is copied in pieces, each slot in the order of the core's buckets") {
  cuda::device_work<recording_api> on{recording_api{}};
  std::vector<float> numbers(30);
  std::iota(numbers.begin(), numbers.end(), 0.0f);
  float* const at = numbers.data();
  cuda::training_image<float, 1, recording_api> image(on, {{at, {at + 10}, 7}, {at + 20, {at + 25}, 2}}, 3);
  image.fetch();
  CHECK(std::vector<float>(image.value(0).begin(), image.value(0).end()) == std::vector<float>{0, 1, 2, 3, 4, 5, 6});
  CHECK(std::vector<float>(image.slot(0).begin(), image.slot(0).end()) ==
        std::vector<float>{25, 26, 10, 11, 12, 13, 14, 15, 16});
  for (float& x : image.slot(0)) x = -x;
  image.value(1)[1] = 99;
  image.store();
  CHECK(numbers[10] == -10);
  CHECK(numbers[16] == -16);
  CHECK(numbers[17] == 17);
  CHECK(numbers[21] == 99);
  CHECK(numbers[26] == -26);
  CHECK(numbers[27] == 27);
}
