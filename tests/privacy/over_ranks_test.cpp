// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// What must hold over several ranks for a release to be private; quick to compile, since mutants are run against it.
#include "dpopt/dp_optimizer/dp_optimizer.hpp"

#include "dpopt/communication/threads.hpp"
#include "support/catch.hpp"
#include "support/probes.hpp"
#include "support/ranks.hpp"

#include <cstddef>
#include <exception>
#include <string>
#include <utility>
#include <vector>

using namespace dpopt;
using namespace dpopt::test;

namespace {

constexpr double multiplier = 3;
constexpr double bound = 1.25;

template <class P>
using optimizer = dp_optimizer<double, flat, probe_noise, probe_accountant, expected_batch, threads, P>;

// Each rank's batch is its own; the expected size is of each rank.
small_batch batch_of(int rank, int step) { return small_batch(2 + rank, 10 * step + rank + 1); }

template <class Opt>
void feed(Opt& opt, const small_batch& b) {
  opt.begin({.samples = b.samples});
  b.hand_over(opt);
}

// What each rank released in its second step.
template <class P>
std::vector<std::vector<double>> second_release(int ranks) {
  std::vector<std::vector<double>> released(static_cast<std::size_t>(ranks));
  const auto errors = run_ranks(ranks, [&](threads comm) {
    const int rank = comm.rank();
    small_model model;
    journal log;
    optimizer<P> opt(model.views(), dp_options{}, flat{bound}, probe_noise{multiplier, &log}, probe_accountant{&log},
                     expected_batch{.expected_batch_size = per_rank(4)}, std::move(comm), P{});
    for (int step = 0; step < 2; ++step) {
      feed(opt, batch_of(rank, step));
      opt.step();
    }
    released[static_cast<std::size_t>(rank)] = model.released();
  });
  CHECK(error_texts(errors) == "");
  return released;
}

} // namespace

TEMPLATE_TEST_CASE("noise comes once over all ranks, and all ranks are given the same numbers", "", replicated,
                   root_before_reduction) {
  for (int ranks = 1; ranks <= 3; ++ranks) {
    std::vector<double> sum(small_model::total, 0.0);
    for (int r = 0; r < ranks; ++r) sum = plus(sum, batch_of(r, 1).clipped_flat(bound));
    const auto released = second_release<TestType>(ranks);
    CHECK(close(released[0], over(plus(sum, multiplier * bound), 4 * ranks)));
    for (const auto& r : released) CHECK(r == released[0]);
  }
}

TEST_CASE("an error on one rank stops the release on all") {
  for (const int failing : {0, 1}) {
    std::vector<std::vector<double>> moved(2);
    const auto errors = run_ranks(2, [&](threads comm) {
      const int rank = comm.rank();
      small_model model;
      const std::vector<double> before = model.values();
      optimizer<replicated> opt(model.views(), dp_options{}, flat{bound}, probe_noise{multiplier}, probe_accountant{},
                                expected_batch{.expected_batch_size = per_rank(4)}, std::move(comm), replicated{});
      feed(opt, batch_of(rank, 0));
      if (rank == failing) opt.gradient_ready(1, batch_of(rank, 0).source(1)); // a second time
      try {
        opt.step();
      } catch (...) {
        moved[static_cast<std::size_t>(rank)] = plus(model.values(), before, -1);
        throw;
      }
    });
    for (std::size_t r = 0; r < 2; ++r) {
      CHECK(holds<rank_error>(errors[r]));
      CHECK(error_text(errors[r]).find("rank " + std::to_string(failing) + ": second gradient for 'bias'") == 0);
      CHECK(moved[r] == std::vector<double>(7, 0.0));
    }
  }
}

TEST_CASE("ranks that were given different bounds or multipliers do not train together") {
  for (const bool in_bound : {true, false}) {
    const auto errors = run_ranks(2, [&](threads comm) {
      const bool odd = comm.rank() == 1;
      small_model model;
      optimizer<replicated>(model.views(), dp_options{}, flat{odd && in_bound ? 2 * bound : bound},
                            probe_noise{odd && !in_bound ? multiplier / 2 : multiplier}, probe_accountant{},
                            expected_batch{.expected_batch_size = per_rank(4)}, std::move(comm), replicated{});
    });
    for (const auto& e : errors) {
      CHECK(holds<invalid_argument>(e));
      CHECK(error_text(e) == std::string("configuration differs between ranks: ") + (in_bound ? "clipper" : "noise") +
                                 " (rank 1 differs from rank 0); give all ranks the same options");
    }
  }
}
