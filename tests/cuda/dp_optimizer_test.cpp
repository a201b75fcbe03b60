// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// The optimizer of the device against the core's: the same values and gradients from the same samples and seed. The
// device is the recording double, whose kernels run on the CPU executor.
#include "support/device_ranks.hpp"
#include "support/device_trainer.hpp"

#include "support/catch.hpp"

#include "dpopt/accumulation/integer_grid.hpp"
#include "dpopt/clipping/adaptive.hpp"
#include "dpopt/clipping/automatic.hpp"
#include "dpopt/clipping/per_layer.hpp"
#include "dpopt/core/schedules.hpp"
#include "dpopt/dp_optimizer/dp_optimizer.hpp"
#include "dpopt/noise/scheduled_multiplier.hpp"
#include "dpopt/optimizers/adam.hpp"
#include "support/ranks.hpp"
#include "support/toy_training.hpp"

#include <cstddef>
#include <limits>
#include <stdexcept>
#include <string>
#include <vector>

using namespace dpopt;
using namespace dpopt::test;
using testing::device_ranks;
using testing::device_trainer;
using testing::recorded_call;
using testing::recording_api;
using kind = recorded_call::kind;

static_assert(cuda::DrawnOnDevice<scheduled_multiplier<counter_gaussian, exponential_decay>>);

namespace {

constexpr isize samples_a_step = 9;
const counter_gaussian noise{.noise_multiplier = 0.7, .seed = 20};
const expected_batch scaling{.expected_batch_size = across_ranks{8.0}};

microbatches share(isize step, int rank, int ranks) { return uneven_share(samples_a_step, step, rank, ranks); }

/// Trains on W ranks of threads, make(views, threads) -> optimizer, and gives every rank's result.
template <class T, class Make>
std::vector<toy_result<T>> train_on(int ranks, isize steps, Make make) {
  std::vector<toy_result<T>> results(static_cast<std::size_t>(ranks));
  rethrow_first(run_ranks(ranks, [&](threads comm) {
    const int rank = comm.rank();
    results[static_cast<std::size_t>(rank)] = toy_train<T>(
        steps, [&](const auto& views) { return make(views, std::move(comm)); },
        [&](isize step) { return share(step, rank, ranks); }, 3);
  }));
  return results;
}

// Out of CHECK, which would print thousands of numbers.
template <class T>
bool same(const std::vector<T>& a, const std::vector<T>& b) {
  return a == b;
}
template <class T>
bool same(const toy_result<T>& a, const toy_result<T>& b) {
  return a.released == b.released && a.values == b.values;
}

const auto per_layer_bounds = [] { return per_layer{.max_grad_norm = std::vector<double>{0.9, 0.4, 0.3, 2.0, 0.5}}; };

} // namespace

TEST_CASE("the device's float sums train like the core's, per layer with Adam, on 1 to 3 ranks") {
  for (int ranks = 1; ranks <= 3; ++ranks) {
    const auto on_host = train_on<float>(ranks, 3, [](const auto& views, threads comm) {
      return dp_optimizer(views, dp_options{}, per_layer_bounds(), noise, scaling, adam{.learning_rate = 0.05},
                          std::move(comm));
    });
    const auto on_device = train_on<float>(ranks, 3, [](const auto& views, threads comm) {
      return device_trainer(views, dp_options{}, recording_api{}, per_layer_bounds(), noise, scaling,
                            adam{.learning_rate = 0.05}, device_ranks(std::move(comm)));
    });
    INFO(ranks << " ranks");
    for (std::size_t r = 0; r < on_device.size(); ++r) {
      CHECK(distance(on_device[r].released.front(), on_host[r].released.front()) <= 1e-6);
      CHECK(distance(on_device[r], on_host[r]) <= 2e-5); // Adam divides small differences by small numbers
      CHECK(same(on_device[r].values, on_device[0].values));
    }
  }
}

TEST_CASE("on the integer grid the device gives the core's bits, flat, on 1 to 3 ranks") {
  for (int ranks = 1; ranks <= 3; ++ranks) {
    const auto on_host = train_on<double>(ranks, 2, [](const auto& views, threads comm) {
      return dp_optimizer(views, dp_options{}, flat{1.5}, noise, scaling, integer_grid{}, sgd{.momentum = 0.9},
                          std::move(comm));
    });
    const auto on_device = train_on<double>(ranks, 2, [](const auto& views, threads comm) {
      return device_trainer(views, dp_options{}, recording_api{}, flat{1.5}, noise, scaling, cuda::integer_grid{},
                            sgd{.momentum = 0.9}, device_ranks(std::move(comm)));
    });
    INFO(ranks << " ranks");
    for (std::size_t r = 0; r < on_device.size(); ++r) {
      CHECK(same(on_device[r], on_host[r]));
    }
  }
}

TEST_CASE("a clipper that learns learns the same from a device") {
  const auto clipper = [] {
    return adaptive{per_layer{.max_grad_norm = 0.5},
                    {.count_noise_std = 4.0, .expected_batch_size = across_ranks{8.0}, .greatest_bound = 4}};
  };
  const auto on_host = train_on<double>(2, 3, [&](const auto& views, threads comm) {
    return dp_optimizer(views, dp_options{}, clipper(), noise, scaling, sgd{}, integer_grid{}, std::move(comm));
  });
  recording_api devices[2] = {recording_api{1}, recording_api{2}};
  const auto on_device = train_on<double>(2, 3, [&](const auto& views, threads comm) {
    const recording_api device = devices[comm.rank()];
    return device_trainer(views, dp_options{}, device, clipper(), noise, scaling, sgd{}, cuda::integer_grid{},
                          device_ranks(std::move(comm)));
  });
  CHECK(same(on_device[0], on_host[0]));
  CHECK(same(on_device[1], on_host[1]));
}

TEST_CASE("weights and gradient scales apply before clipping on a device, also to what a clipper learns") {
  constexpr double missing = std::numeric_limits<double>::quiet_NaN();
  const std::vector<double> weights{1, 0, 0.5, 2, missing, 1};
  const auto train = [&](auto make) {
    toy_model<double> model(toy_sizes());
    toy_feeder<double> feeder;
    rethrow_first(run_ranks(1, [&](threads comm) {
      auto opt = make(model.views(), std::move(comm));
      for (isize s = 0; s < 2; ++s) {
        opt.begin({.samples = 6, .gradient_scale = 3, .weights = weights.data()});
        feeder.hand_over(opt, s, {0, 1, 2, 3, 4, 5});
        opt.step();
      }
    }));
    return model.all_values();
  };
  const auto clipper = [] {
    return adaptive{per_layer{.max_grad_norm = 0.5},
                    {.count_noise_std = 4.0, .expected_batch_size = across_ranks{8.0}, .greatest_bound = 4}};
  };
  const auto on_host = train([&](const auto& views, threads comm) {
    return dp_optimizer(views, dp_options{}, clipper(), noise, scaling, sgd{}, integer_grid{}, std::move(comm));
  });
  const auto on_device = train([&](const auto& views, threads comm) {
    return device_trainer(views, dp_options{}, recording_api{}, clipper(), noise, scaling, sgd{}, cuda::integer_grid{},
                          device_ranks(std::move(comm)));
  });
  CHECK(same(on_device, on_host));
}

TEST_CASE("the host waits for the norms' event alone, once a microbatch, and only when its clipper learns") {
  recording_api device;
  toy_model<double> model(toy_sizes());
  rethrow_first(run_ranks(1, [&](threads comm) {
    device_trainer opt(
        model.views(), dp_options{}, device,
        adaptive{per_layer{.max_grad_norm = 0.5},
                 {.count_noise_std = 4.0, .expected_batch_size = across_ranks{8.0}, .greatest_bound = 4}},
        noise, scaling, sgd{}, cuda::integer_grid{}, device_ranks(std::move(comm)));
    toy_feeder<double> feeder;
    feeder.feed(opt, 0, {{0, 1, 2}, {3, 4}});
    opt.step();
    device.forget_calls();
    feeder.feed(opt, 1, {{0, 1, 2}, {3, 4}});
    opt.step();
  }));
  CHECK(device.count(kind::host_wait) == 2);
  CHECK(device.count(kind::record) == 2);
  CHECK(device.count(kind::copy) == 2);
  CHECK(device.count(kind::synchronize) == 0);
  CHECK(device.count("wait for norms") == 2);
}

namespace {

/// What one rank trains: floats, per layer; a device and a model of its own.
struct float_trainer {
  recording_api device{7};
  toy_model<float> model{toy_sizes()};
  toy_feeder<float> feeder = {};

  [[nodiscard]] auto optimizer(threads comm) {
    return device_trainer(model.views(), dp_options{}, device, per_layer_bounds(), noise, scaling,
                          adam{.learning_rate = 0.05}, device_ranks(std::move(comm)));
  }
  /// The only rank.
  template <class F>
  void with_optimizer(F f) {
    rethrow_first(run_ranks(1, [&](threads comm) {
      auto opt = optimizer(std::move(comm));
      f(opt);
    }));
  }
};

std::vector<std::string> names_of(const std::vector<recorded_call>& calls) {
  std::vector<std::string> out;
  for (const auto& c : calls) out.push_back(c.name);
  return out;
}

} // namespace

TEST_CASE("a step can be captured: after the first it makes the same calls on one stream, never waits or allocates") {
  float_trainer t;
  std::vector<std::string> sequence[2];
  t.with_optimizer([&](auto& opt) {
    for (isize s = 0; s < 3; ++s) {
      t.device.forget_calls();
      t.feeder.feed(opt, s, {{0, 1, 2, 3}});
      opt.step();
      if (s > 0) sequence[s - 1] = names_of(t.device.calls());
    }
    for (const recorded_call& c : t.device.calls()) {
      INFO(c.name);
      CHECK(c.stream == 7);
      CHECK((c.what == kind::launch || c.what == kind::zero || c.what == kind::all_reduce));
    }
  });
  std::vector<std::string> expected{"zero counts", "zero norms"};
  for (std::size_t p = 0; p < toy_sizes().size(); ++p)
    expected.insert(expected.end(), {"add_row_norms_by_warp", "clip factors", "add_weighted_rows"});
  expected.insert(expected.end(), {"all_reduce", "permit_release", "release_once"}); // once for all parameters
  CHECK(sequence[0] == expected);
  CHECK(sequence[1] == expected);
  CHECK(t.device.live_allocations() == 0);
}

TEST_CASE("a captured step that is replayed changes nothing, and its samples are dropped") {
  const auto train = [](bool replay) {
    float_trainer t;
    t.with_optimizer([&](auto& opt) {
      for (isize s = 0; s < 3; ++s) {
        t.device.capture(s == 1);
        t.feeder.feed(opt, s, {{0, 1, 2, 3}});
        opt.step();
        if (s != 1 || !replay) continue;
        const auto values = t.model.all_values(), gradients = t.model.all_gradients();
        CHECK(t.device.replay() > 10);
        CHECK(same(t.model.all_values(), values));
        CHECK(same(t.model.all_gradients(), gradients));
      }
    });
    return t.model.all_values();
  };
  CHECK(same(train(true), train(false)));
}

TEST_CASE("whatever call of a step fails, the error names it, values stay, and its samples never come back") {
  const auto run = [](isize failing, std::string& error, const char* too = "") {
    recording_api device;
    toy_model<double> model(toy_sizes());
    toy_feeder<double> feeder;
    isize calls = 0;
    rethrow_first(run_ranks(1, [&](threads comm) {
      counter_gaussian none = noise;
      none.noise_multiplier = 0; // so that only samples and state show
      device_trainer opt(model.views(), dp_options{}, device, flat{1.5}, none, scaling, cuda::integer_grid{},
                         sgd{.momentum = 0.9}, device_ranks(std::move(comm)));
      feeder.feed(opt, 0, {{0, 1, 2, 3}});
      opt.step();
      const auto before = model.all_values();
      if (failing >= 0) {
        device.forget_calls();
        device.fail_after(failing);
        device.fail_next(too);
        feeder.feed(opt, 1, {{4, 5}, {6, 7}});
        try {
          opt.step();
        } catch (const std::exception& e) {
          error = e.what();
        }
        device.fail_after(-1);
        calls = std::ssize(device.calls());
        if (model.all_values() != before) error += "; values changed";
      }
      feeder.feed(opt, 2, {{0, 1, 2}});
      try {
        opt.step();
      } catch (const communication_error&) {
        error += "; the communicator is gone";
      }
    }));
    return std::pair(model.all_values(), calls);
  };
  std::string none;
  const auto undisturbed = run(-1, none).first;
  isize failed = 0;
  for (isize k = 0;; ++k) {
    std::string error;
    const auto [values, calls] = run(k, error);
    INFO("call " << k << ": " << error);
    if (error.empty() || error == "; values changed") break; // beyond the last call of the step: it went through
    ++failed;
    CHECK(error.find("told to fail") != std::string::npos);
    CHECK(error.find("stream 1") != std::string::npos);
    CHECK(error.find("values changed") == std::string::npos);
    const bool gone = error.find("the communicator is gone") != std::string::npos;
    CHECK(gone == (error.find("all_reduce") != std::string::npos));
    if (!gone) CHECK(same(values, undisturbed));
  }
  CHECK(failed == 12); // calls of a step with two microbatches, whose parameters share launches

  std::string twice; // the sums cannot be cleared either: begin() makes good for it
  CHECK(same(run(8, twice, "zero sums").first, undisturbed));
  CHECK(twice.find("add_grid_sums_of_many") != std::string::npos);
}

TEST_CASE("a sum over ranks that one rank cannot start is the same error on all, from then on") {
  std::vector<std::string> first_error(3), second_error(3);
  std::vector<char> unchanged(3);
  std::vector<std::vector<std::string>> afterwards(3); // calls of the first attempt, from the sum on
  const auto errors = run_ranks(3, [&](threads comm) {
    const auto rank = static_cast<std::size_t>(comm.rank());
    float_trainer t{.device = recording_api(comm.rank())};
    auto opt = t.optimizer(std::move(comm));
    const auto before = t.model.all_values();
    if (rank == 1) t.device.fail_next("all_reduce");
    const auto attempt = [&](std::string& text) {
      t.feeder.feed(opt, 0, {{static_cast<isize>(rank)}});
      try {
        opt.step();
      } catch (const std::exception& e) {
        text = e.what();
      }
    };
    attempt(first_error[rank]);
    for (const recorded_call& c : t.device.calls())
      if (c.what == kind::all_reduce || c.what == kind::abandon || c.name == "zero sums")
        afterwards[rank].push_back(c.name);
    attempt(second_error[rank]);
    if (t.device.count(kind::abandon) != 1) throw std::logic_error("sums were not given up once");
    unchanged[rank] = t.model.all_values() == before;
  });
  CHECK(error_texts(errors).empty());
  for (std::size_t r = 0; r < 3; ++r) {
    CHECK(first_error[r] == first_error[1]);
    CHECK(first_error[r].find("rank 1: device call all_reduce (device_ranks.hpp:") == 0);
    CHECK(second_error[r] == "the communicator failed in an earlier step, or resume() half-way; make a new optimizer");
    CHECK(unchanged[r]);
    // "zero sums" of the construction; then nothing is put on a stream that waits for rank 1 before that is given up
    std::vector<std::string> expected{"zero sums", "all_reduce", "abandon", "zero sums"};
    if (r == 1) expected.erase(expected.begin() + 1);
    CHECK(afterwards[r] == expected);
  }
}

TEST_CASE("after a release that one rank's device refused, no rank goes on") {
  std::vector<std::string> alone(2), together(2);
  rethrow_first(run_ranks(2, [&](threads comm) {
    const auto rank = static_cast<std::size_t>(comm.rank());
    float_trainer t{.device = recording_api(comm.rank())};
    auto opt = t.optimizer(std::move(comm));
    for (std::string* text : {&alone[rank], &together[rank]}) {
      if (rank == 1 && text == &alone[rank]) t.device.fail_next("release_once");
      const auto before = t.model.all_values();
      t.feeder.feed(opt, 0, {{static_cast<isize>(rank)}});
      try {
        opt.step();
      } catch (const std::exception& e) {
        *text = e.what();
        if (t.model.all_values() != before) *text += "; values changed";
      }
    }
  }));
  CHECK(alone[0].empty());
  CHECK(alone[1].find("device call release_once") == 0);
  CHECK(together[0].find("1 updates (fewer than elsewhere if one failed on this rank only") != std::string::npos);
  CHECK(together[0].find("values changed") == std::string::npos);
  CHECK(together[1] == together[0]);
}

namespace {

/// Puts itself in words until told otherwise.
struct wordless : sgd {
  bool fails = false;
  [[nodiscard]] std::string describe() const {
    if (fails) throw std::runtime_error("no words");
    return sgd::describe();
  }
};

} // namespace

TEST_CASE("a base optimizer that fails to describe itself on one rank's device is an error of all, charged once") {
  std::vector<double> spent(2);
  const auto errors = run_ranks(2, [&](threads comm) {
    const auto rank = static_cast<std::size_t>(comm.rank());
    toy_model<float> model(toy_sizes());
    device_trainer opt(model.views(), dp_options{}, recording_api{}, per_layer_bounds(), noise, scaling, wordless{},
                       device_ranks(std::move(comm)));
    opt.base_optimizer().fails = rank == 1;
    opt.begin({.samples = 0});
    try {
      opt.step();
    } catch (...) {
      spent[rank] = opt.epsilon(1e-5);
      throw;
    }
  });
  CHECK(error_text(errors[0]).find("rank 1: no words") == 0);
  CHECK(error_text(errors[1]) == error_text(errors[0]));
  CHECK(spent[0] > 0);
  CHECK(spent[1] == spent[0]);
}

TEST_CASE("a device without memory fails the construction, on every rank and by name") {
  const auto errors = run_ranks(2, [&](threads comm) {
    float_trainer t;
    if (comm.rank() == 1) t.device.fail_next("allocate sums");
    auto opt = t.optimizer(std::move(comm));
  });
  CHECK(error_text(errors[0]).find("rank 1: device call allocate sums") == 0);
  CHECK(error_text(errors[1]) == error_text(errors[0]));
}

TEST_CASE("a step without samples releases the core's noise, and private counts are the core's") {
  float_trainer t;
  toy_model<float> on_host(toy_sizes());
  toy_feeder<float> feeder;
  dp_optimizer host(on_host.views(), dp_options{}, per_layer_bounds(), noise, scaling, adam{.learning_rate = 0.05},
                    serial{});
  t.with_optimizer([&](auto& opt) {
    CHECK(opt.private_sample_counts().samples == 0); // before anything began
    t.feeder.feed(opt, 0, {{}});
    feeder.feed(host, 0, {{}});
    opt.step();
    host.step();
    CHECK(same(t.model.all_gradients(), on_host.all_gradients()));
    CHECK(same(t.model.all_values(), on_host.all_values()));
    t.feeder.feed(opt, 1, {{1, 2, 3, 4, 5, 6}});
    feeder.feed(host, 1, {{1, 2, 3, 4, 5, 6}});
    opt.step();
    host.step();
    const private_counts counts = opt.private_sample_counts();
    CHECK(counts.samples == host.private_sample_counts().samples);
    CHECK(counts.clipped == host.private_sample_counts().clipped);
    CHECK(counts.clipped > 0);
    CHECK(opt.epsilon(1e-5) == host.epsilon(1e-5));
  });
}
