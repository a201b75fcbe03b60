// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Question: what does a step with the placement sharded cost a rank, against replicated? Ranks as threads, one sample
/// of 256 Ki floats each, SGD. In processor time of rank 0, which does not ask for a core a rank; and by the clock for
/// two.
#include "dpopt/accounting/no_accountant.hpp"
#include "dpopt/clipping/flat.hpp"
#include "dpopt/communication/threads.hpp"
#include "dpopt/dp_optimizer/dp_optimizer.hpp"
#include "dpopt/gradients/materialized.hpp"
#include "dpopt/noise/placement.hpp"
#include "dpopt/sodium/secure_gaussian.hpp"

#include <benchmark/benchmark.h>

#include <atomic>
#include <cstddef>
#include <thread>
#include <utility>
#include <vector>

namespace {

using dpopt::isize;

constexpr isize size = isize{1} << 18;

/// One rank's part of a run.
template <class Placed, class Noise>
class rank_steps {
public:
  explicit rank_steps(dpopt::threads comm)
      : opt_(std::vector<dpopt::parameter_view<float>>{{"w", w_}}, dpopt::dp_options{}, dpopt::flat{1.0},
             dpopt::sgd{.learning_rate = 0.1}, Noise{.noise_multiplier = 1}, Placed{}, std::move(comm),
             dpopt::no_accountant{}, dpopt::expected_batch{dpopt::per_rank(1)}) {}
  void step() {
    opt_.begin({.samples = 1});
    opt_.gradient_ready(0, dpopt::materialized(g_.data(), 1, size));
    opt_.step();
  }

private:
  std::vector<float> w_ = std::vector<float>(static_cast<std::size_t>(size), 1.0F);
  std::vector<float> g_ = w_;
  dpopt::dp_optimizer<float, dpopt::flat, dpopt::sgd, Noise, Placed, dpopt::threads, dpopt::no_accountant,
                      dpopt::expected_batch>
      opt_;
};

/// Rank 0 is the measured thread; the others take a step for each that rank 0 announces.
template <class Placed, class Noise>
void steps(benchmark::State& state) {
  const int ranks = static_cast<int>(state.range(0));
  dpopt::threads::world shared(ranks);
  std::atomic<isize> announced = 0;
  std::vector<std::jthread> others;
  for (int rank = 1; rank < ranks; ++rank)
    others.emplace_back([&, rank] {
      rank_steps<Placed, Noise> mine(dpopt::threads(shared, rank));
      for (isize done = 0;; ++done) {
        announced.wait(done);
        if (announced < 0) return;
        mine.step();
      }
    });
  rank_steps<Placed, Noise> mine(dpopt::threads(shared, 0));
  const auto together = [&] {
    ++announced;
    announced.notify_all();
    mine.step();
  };
  together(); // the first one touches the memory
  for (auto _ : state) together();
  announced = -1;
  announced.notify_all();
}

template <class Placed>
void fast(benchmark::State& s) {
  steps<Placed, dpopt::counter_gaussian>(s);
}
template <class Placed>
void secure(benchmark::State& s) {
  steps<Placed, dpopt::secure_gaussian>(s);
}
constexpr auto several = [](auto* b) { b->ArgName("ranks")->Arg(2)->Arg(4); };
constexpr auto clock_of_two = [](auto* b) { b->ArgName("ranks")->Arg(2)->UseRealTime(); };

BENCHMARK(fast<dpopt::sharded>)->Name("sharded/ours")->Apply(several);
BENCHMARK(fast<dpopt::replicated>)->Name("sharded/raw:replicated")->Apply(several);
BENCHMARK(secure<dpopt::sharded>)->Name("sharded, secure/ours")->Apply(several);
BENCHMARK(secure<dpopt::replicated>)->Name("sharded, secure/raw:replicated")->Apply(several);
BENCHMARK(secure<dpopt::sharded>)->Name("sharded, secure, by the clock/ours")->Apply(clock_of_two);
BENCHMARK(secure<dpopt::replicated>)->Name("sharded, secure, by the clock/raw:replicated")->Apply(clock_of_two);

} // namespace
