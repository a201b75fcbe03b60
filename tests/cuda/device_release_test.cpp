// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// Noise that the host draws for a device: the core's bits, no number twice, and no wait but for its own buffer.
#include "support/device_ranks.hpp"
#include "support/device_trainer.hpp"

#include "support/catch.hpp"

#include "dpopt/accumulation/integer_grid.hpp"
#include "dpopt/core/schedules.hpp"
#include "dpopt/dp_optimizer/dp_optimizer.hpp"
#include "dpopt/noise/scheduled_multiplier.hpp"
#include "dpopt/sodium/hardened_gaussian.hpp"
#include "support/ranks.hpp"
#include "support/recording_noise.hpp"
#include "support/toy_training.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <set>
#include <utility>
#include <vector>

using namespace dpopt;
using namespace dpopt::test;
using testing::device_ranks;
using testing::device_trainer;
using testing::recording_api;
using kind = testing::recorded_call::kind;

namespace {

/// key() gives noise that the host draws.
template <class Key>
void expect_the_core_s_bits(Key key) {
  recording_api device;
  const expected_batch scaling{.expected_batch_size = across_ranks{8.0}};
  toy_model<double> host_model(toy_sizes()), device_model(toy_sizes());
  toy_feeder<double> host_feeder, device_feeder;
  dp_optimizer host(host_model.views(), dp_options{}, flat{1.5}, key(), scaling, integer_grid{}, sgd{.momentum = 0.9},
                    serial{});
  device_trainer opt(device_model.views(), dp_options{}, device, flat{1.5}, key(), scaling, cuda::integer_grid{},
                     sgd{.momentum = 0.9}, cuda::serial{});
  std::ranges::copy(host.noise().secret(), opt.noise().secret().begin());
  for (isize s = 0; s < 3; ++s) {
    device.forget_calls();
    host_feeder.feed(host, s, {{0, 1, 2}});
    device_feeder.feed(opt, s, {{0, 1, 2}});
    host.step();
    opt.step();
    const bool same =
        device_model.all_gradients() == host_model.all_gradients(); // out of CHECK, which would print them
    CHECK(same);
    CHECK(opt.noise_std() == host.noise_std());
  }
  const bool same = device_model.all_values() == host_model.all_values();
  CHECK(same);
  CHECK(device.count(kind::host_wait) == 1);
  CHECK(device.count(kind::synchronize) == 0);
  CHECK(device.count(kind::allocate) == 0);
  CHECK(device.count("add_integers") == 1);
}

} // namespace

TEST_CASE("hardened noise on a device is the core's, bit by bit, and waits for its own buffer alone") {
  expect_the_core_s_bits([] { return hardened_gaussian{.noise_multiplier = 0.7}; });
}

TEST_CASE("hardened noise on a schedule is the core's on a device, too") {
  expect_the_core_s_bits([] {
    return scheduled_multiplier{hardened_gaussian{.noise_multiplier = 0.7}, exponential_decay{1.5}};
  });
}

TEST_CASE("a device's optimizer uses each number of the noise's stream once, also around virtual and failed steps") {
  for (const int ranks : {1, 2}) {
    std::vector<record> by_rank(static_cast<std::size_t>(ranks));
    rethrow_first(run_ranks(ranks, [&](threads comm) {
      const int rank = comm.rank();
      toy_model<double> model(toy_sizes());
      const recording<hardened_gaussian> noise{{.noise_multiplier = 0.7}};
      device_trainer opt(model.views(), dp_options{}, recording_api{}, flat{1.5}, noise,
                         expected_batch{.expected_batch_size = across_ranks{8.0}}, cuda::integer_grid{}, sgd{},
                         device_ranks(std::move(comm)));
      toy_feeder<double> feeder;
      for (isize s = 0; s < 5; ++s) {
        const bool fails = s == 2;
        if (s == 1) opt.signal_skip_step();
        try {
          feeder.feed(opt, s, uneven_share(9, s, rank, ranks));
          if (fails && rank == ranks - 1) opt.gradient_ready(0, materialized<double>(model.values[0].data(), 1, 12));
          opt.step();
        } catch (const dpopt::error&) {
          if (!fails) throw;
        }
      }
      by_rank[static_cast<std::size_t>(rank)] = std::move(*noise.into);
    }));
    constexpr std::size_t numbers = 12 + 3 + 1 + 1500 + 7, releases = 3;
    for (const record& r : by_rank) {
      CHECK(r.distinct());
      CHECK(r.count_of(purpose::gradient) >= releases * numbers); // more where a failed step's were drawn and dropped
      CHECK(r.count_of(purpose::gradient) % numbers == 0);
      const std::set<std::uint64_t> steps = r.steps();
      for (const std::uint64_t s : {0u, 2u, 3u}) CHECK(steps.contains(s)); // 1 is the failed step's and no other's
    }
  }
}
