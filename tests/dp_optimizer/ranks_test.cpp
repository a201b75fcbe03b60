// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// dp_optimizer on 1 to 5 ranks, each a thread; as tests/mpi/dp_optimizer_mpi_test.cpp, and what only threads can show.
#include "support/catch.hpp"

#include "dpopt/communication/threads.hpp"
#include "support/rank_promises.hpp"
#include "support/ranks.hpp"

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <stdexcept>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

using namespace dpopt;
using namespace dpopt::test;

namespace {

constexpr int most_ranks = 5;

/// Empty when every rank returned.
template <class F>
std::string broken_on(int ranks, F f) {
  return error_texts(run_ranks(ranks, f));
}

// ---- counting -------------------------------------------------------------------------------------------------------

using call_log = std::vector<std::string>;

/// `threads` that writes down its collectives.
class counting {
public:
  using role = roles::communicator;
  using request = threads::request;

  counting(threads inner, std::shared_ptr<call_log> log) : inner_(std::move(inner)), log_(std::move(log)) {}
  [[nodiscard]] int rank() const noexcept { return inner_.rank(); }
  [[nodiscard]] int size() const noexcept { return inner_.size(); }
  template <WireNumber T>
  [[nodiscard]] request start_sum(T* values, isize n) {
    log_->push_back(message("sum of ", n, " ", wire_name<T>()));
    return inner_.start_sum(values, n);
  }
  void wait(request& started) { inner_.wait(started); }
  void broadcast(std::byte* bytes, isize n, int root) {
    log_->push_back(message("broadcast of ", n, " from ", root));
    inner_.broadcast(bytes, n, root);
  }
  void abandon() noexcept { inner_.abandon(); }

private:
  threads inner_;
  std::shared_ptr<call_log> log_;
};
static_assert(Reduces<counting, float> && Reduces<counting, double> && Reduces<counting, std::int64_t>);

/// The collectives of each step on one rank: before step() was called, and in all.
struct step_calls {
  std::size_t before_last = 0; ///< until the last microbatch began
  std::size_t before_step = 0; ///< until step() was called
  call_log all;
};

template <class When>
std::vector<step_calls> calls_of(threads comm, isize steps) {
  const int rank = comm.rank();
  const int ranks = comm.size();
  const auto log = std::make_shared<call_log>();
  toy_model<double> model(toy_sizes());
  auto opt = toy_optimizer<double, counting, running_sum<double>, When>(model.views(), counting(std::move(comm), log));
  toy_feeder<double> feeder;
  std::vector<step_calls> out(1);
  out[0].all = std::exchange(*log, {}); // the constructor's
  for (isize s = 0; s < steps; ++s) {
    step_calls calls;
    microbatches parts = uneven_share(toy_samples, s, rank, ranks);
    for (std::size_t m = 0; m < parts.size(); ++m) {
      opt.begin({.samples = std::ssize(parts[m]), .last = m + 1 == parts.size()});
      calls.before_last = log->size();
      feeder.hand_over(opt, s, parts[m], static_cast<std::uint64_t>(10 * s + rank + 1));
    }
    calls.before_step = log->size();
    opt.step();
    calls.all = std::exchange(*log, {});
    out.push_back(calls);
  }
  return out;
}

/// What one rank gives, with all choices that must not matter at their simplest.
template <class T, class Accumulated, class When>
toy_result<T> plain_run() {
  return toy_train<T>(
      toy_steps, [](const auto& views) { return toy_optimizer<T, serial, Accumulated, When>(views, serial{}); },
      [](isize) { return all_at_once(toy_samples); });
}

} // namespace

// ---- equality -------------------------------------------------------------------------------------------------------

TEST_CASE("any number of ranks gives what one rank gives, to summation order") {
  for (int w = 1; w <= most_ranks; ++w) {
    CHECK(broken_on(
              w, [](threads c) { equals_one_rank<double, running_sum<double>, as_ready>(std::move(c), 1e-14); }) == "");
    CHECK(broken_on(w, [](threads c) { equals_one_rank<double, running_sum<double>, at_step>(std::move(c), 1e-14); }) ==
          "");
    CHECK(broken_on(w, [](threads c) { equals_one_rank<float, running_sum<float>, as_ready>(std::move(c), 2e-6); }) ==
          "");
    CHECK(broken_on(w, [](threads c) { equals_one_rank<float, running_sum<double>, as_ready>(std::move(c), 2e-7); }) ==
          "");
  }
}

TEST_CASE("any number of ranks gives the bits of one rank on the integer grid") {
  for (int w = 1; w <= most_ranks; ++w) {
    CHECK(broken_on(w, [](threads c) { equals_one_rank<double, integer_grid, as_ready>(std::move(c), 0); }) == "");
    CHECK(broken_on(w, [](threads c) { equals_one_rank<double, integer_grid, at_step>(std::move(c), 0); }) == "");
  }
}

TEST_CASE("both schedules give the same bits") {
  const auto ready = plain_run<double, integer_grid, as_ready>();
  const auto late = plain_run<double, integer_grid, at_step>();
  CHECK(distance(ready, late) == 0);
  CHECK(distance(plain_run<double, running_sum<double>, as_ready>(),
                 plain_run<double, running_sum<double>, at_step>()) == 0);
}

TEST_CASE("the order in which parameters arrive changes nothing with one bound a parameter") {
  const auto plain = plain_run<double, running_sum<double>, as_ready>();
  for (const std::uint64_t seed : {1u, 2u, 3u}) {
    const auto shuffled = toy_train<double>(
        toy_steps,
        [](const auto& views) { return toy_optimizer<double, serial, running_sum<double>, as_ready>(views, serial{}); },
        [](isize) { return all_at_once(toy_samples); }, seed);
    CHECK(distance(shuffled, plain) == 0);
  }
}

TEST_CASE(
    "a permutation of the samples changes no bit on the integer grid, and no more than summation order elsewhere") {
  const auto reversed = [](isize) {
    microbatches parts = all_at_once(toy_samples);
    std::reverse(parts[0].begin(), parts[0].end());
    std::swap(parts[0][3], parts[0][11]);
    return parts;
  };
  const auto grid = toy_train<double>(
      toy_steps,
      [](const auto& views) { return toy_optimizer<double, serial, integer_grid, as_ready>(views, serial{}); },
      reversed);
  CHECK(distance(grid, plain_run<double, integer_grid, as_ready>()) == 0);
  const auto sums = toy_train<float>(
      toy_steps,
      [](const auto& views) { return toy_optimizer<float, serial, running_sum<float>, as_ready>(views, serial{}); },
      reversed);
  CHECK(distance(sums, plain_run<float, running_sum<float>, as_ready>()) < 2e-6);
}

TEMPLATE_TEST_CASE("virtual steps equal the one big batch, noise included", "", as_ready, at_step) {
  const auto plain = plain_run<double, integer_grid, TestType>();
  toy_model<double> model(toy_sizes());
  auto opt = toy_optimizer<double, serial, integer_grid, TestType>(model.views(), serial{});
  toy_feeder<double> feeder;
  for (isize s = 0; s < toy_steps; ++s) {
    const microbatches parts = uneven_share(toy_samples, 1 + s % 2, 0, 1); // two or three parts
    REQUIRE(parts.size() >= 2);
    const std::vector<double> before = model.all_values();
    for (std::size_t m = 0; m < parts.size(); ++m) {
      const bool last = m + 1 == parts.size();
      opt.signal_skip_step(!last);
      feeder.feed(opt, s, {parts[m]});
      CHECK(opt.step() == last);
      CHECK(opt.last_step_skipped() == !last);
      CHECK((model.all_values() == before) == !last);
    }
    CHECK(opt.accumulated_iterations() == 1);
    CHECK(distance(model.all_gradients(), plain.released[static_cast<std::size_t>(s)]) == 0);
  }
  CHECK(distance(model.all_values(), plain.values) == 0);
}

TEST_CASE("logical batches that the trainer declares divide the release, parts of one do not") {
  const auto release = [](bool ends) {
    toy_model<double> model(toy_sizes());
    auto opt = toy_optimizer<double, serial, integer_grid, as_ready>(model.views(), serial{});
    toy_feeder<double> feeder;
    feeder.feed(opt, 0, {{0, 1}, {2}, {3, 4, 5}}, 0, ends);
    opt.step();
    CHECK(opt.accumulated_iterations() == (ends ? 3 : 1));
    return model.all_gradients();
  };
  std::vector<double> thrice = release(true);
  for (double& g : thrice) g *= 3;
  CHECK(distance(thrice, release(false)) < 1e-15);
}

TEST_CASE("secure_mode gives all ranks the same parameters, and others in the next run") {
  for (int w = 1; w <= most_ranks; ++w) {
    threads::world second(w); // the runs need a world each
    CHECK(broken_on(w, [&](threads first) {
            threads other(second, first.rank());
            secure_runs_agree_and_differ(std::move(first), std::move(other));
          }) == "");
  }
}

// ---- collectives ----------------------------------------------------------------------------------------------------

TEMPLATE_TEST_CASE("a step is the same sequence of collectives on every rank, whatever its samples", "", as_ready,
                   at_step) {
  constexpr isize steps = 7;
  for (int w = 1; w <= most_ranks; ++w) {
    std::vector<std::vector<step_calls>> by_rank(static_cast<std::size_t>(w));
    const auto errors = run_ranks(w, [&](threads comm) {
      const auto rank = static_cast<std::size_t>(comm.rank());
      by_rank[rank] = calls_of<TestType>(std::move(comm), steps);
    });
    REQUIRE(error_texts(errors) == "");
    for (int r = 0; r < w; ++r) {
      const auto& calls = by_rank[static_cast<std::size_t>(r)];
      CHECK(calls[0].all == by_rank[0][0].all); // constructors
      for (std::size_t s = 1; s <= steps; ++s) {
        INFO("rank " << r << " of " << w << ", step " << s - 1);
        CHECK(calls[s].all == by_rank[0][1].all);
        CHECK(calls[s].before_last == 0); // nothing leaves a rank before its last microbatch
        if (TestType::deferred) CHECK(calls[s].before_step == 0);
      }
    }
    CHECK(by_rank[0][1].all.size() == 4); // three buckets, largest last registered first, and the control message
    if (!TestType::deferred) CHECK(by_rank[0][1].before_step == 3); // all that data was left before step()
  }
}

TEST_CASE("skipped steps make no collective") {
  const auto log = std::make_shared<call_log>();
  const auto errors = run_ranks(1, [&](threads comm) {
    toy_model<double> model(toy_sizes());
    auto opt =
        toy_optimizer<double, counting, running_sum<double>, as_ready>(model.views(), counting(std::move(comm), log));
    toy_feeder<double> feeder;
    log->clear();
    for (int k = 0; k < 3; ++k) {
      opt.signal_skip_step();
      feeder.feed(opt, 0, {{0, 1}});
      opt.step();
    }
    expect(log->empty(), "skipped steps made ", log->size());
    feeder.feed(opt, 0, {{2}});
    opt.step();
    expect(!log->empty(), "the real step made none");
  });
  CHECK(error_texts(errors) == "");
}

TEST_CASE("a failed step is the same sequence of collectives on every rank") {
  for (int w = 2; w <= most_ranks; ++w) {
    std::vector<call_log> logs(static_cast<std::size_t>(w));
    const auto errors = run_ranks(w, [&](threads comm) {
      const int rank = comm.rank();
      const auto log = std::make_shared<call_log>();
      toy_model<double> model(toy_sizes());
      auto opt =
          toy_optimizer<double, counting, running_sum<double>, as_ready>(model.views(), counting(std::move(comm), log));
      toy_feeder<double> feeder;
      thrown_text<rank_error>([&] { spoiled_step(opt, 0, rank == 1, fault::missing_gradient, feeder); });
      logs[static_cast<std::size_t>(rank)] = *log;
    });
    CHECK(error_texts(errors) == "");
    for (const call_log& log : logs) CHECK(log == logs[0]);
  }
}

// ---- faults ---------------------------------------------------------------------------------------------------------

TEST_CASE("a fault of one rank is the same error on all, and the next step works") {
  for (int w = 1; w <= most_ranks; ++w)
    for (const fault how : all_faults)
      for (int spoiler = 0; spoiler < w; ++spoiler) {
        INFO(text_of(how) << " on rank " << spoiler << " of " << w);
        CHECK(broken_on(w, [&](threads c) { faults_are_shared<as_ready>(std::move(c), spoiler, how); }) == "");
        CHECK(broken_on(w, [&](threads c) { faults_are_shared<at_step>(std::move(c), spoiler, how); }) == "");
      }
}

TEST_CASE("faults on several ranks name the lowest") {
  const auto errors = run_ranks(4, [](threads comm) {
    const int rank = comm.rank();
    toy_model<double> model(toy_sizes());
    auto opt = toy_optimizer<double, threads, running_sum<double>, as_ready>(model.views(), std::move(comm));
    toy_feeder<double> feeder;
    spoiled_step(opt, 0, rank == 1 || rank == 3, rank == 1 ? fault::wrong_size : fault::missing_gradient, feeder);
  });
  for (const auto& e : errors) {
    REQUIRE(holds<rank_error>(e));
    CHECK(error_text(e) == error_text(errors[0]));
    CHECK(error_text(e).find("rank 1: ") == 0);
    CHECK(error_text(e).find("2 of 4 ranks failed") != std::string::npos);
  }
}

TEST_CASE("the noise of a failed step is never drawn again") {
  const auto releases = [](bool fail_first) {
    toy_model<double> model(toy_sizes());
    auto opt = toy_optimizer<double, serial, running_sum<double>, as_ready>(model.views(), serial{});
    toy_feeder<double> feeder;
    std::vector<std::vector<double>> out;
    if (fail_first) CHECK_THROWS_AS(spoiled_step(opt, 0, true, fault::missing_gradient, feeder), state_error);
    for (isize s = fail_first ? 1 : 0; s < 2; ++s) {
      opt.begin({.samples = 0});
      opt.step();
      out.push_back(model.all_gradients());
    }
    return out;
  };
  const auto with_failure = releases(true);
  const auto without = releases(false);
  CHECK(with_failure[0] == without[1]);
  CHECK(with_failure[0] != without[0]);
}

/// `threads` that keeps every float that a sum delivers; the control message is of doubles.
class listening {
public:
  using role = roles::communicator;
  struct request {
    threads::request sum;
    std::span<const float> values;
  };

  listening(threads inner, std::shared_ptr<std::vector<float>> heard)
      : inner_(std::move(inner)), heard_(std::move(heard)) {}
  [[nodiscard]] int rank() const noexcept { return inner_.rank(); }
  [[nodiscard]] int size() const noexcept { return inner_.size(); }
  template <WireNumber T>
  [[nodiscard]] request start_sum(T* values, isize n) {
    request out{inner_.start_sum(values, n), {}};
    if constexpr (std::is_same_v<T, float>) out.values = {values, static_cast<std::size_t>(n)};
    return out;
  }
  void wait(request& started) {
    inner_.wait(started.sum);
    heard_->insert(heard_->end(), started.values.begin(), started.values.end());
    started.values = {};
  }
  void broadcast(std::byte* bytes, isize n, int root) { inner_.broadcast(bytes, n, root); }
  void abandon() noexcept { inner_.abandon(); }

private:
  threads inner_;
  std::shared_ptr<std::vector<float>> heard_;
};

TEMPLATE_TEST_CASE("with noise before the reduction no rank hears an exact sum, also when a rank fails", "",
                   root_before_reduction, independent_shares) {
  for (int spoiler = -1; spoiler < 3; ++spoiler) { // -1: nobody
    std::vector<std::vector<float>> by_rank(3);
    const auto errors = run_ranks(3, [&](threads comm) {
      const int rank = comm.rank();
      const auto heard = std::make_shared<std::vector<float>>();
      toy_model<float> model(toy_sizes());
      dp_optimizer opt(model.views(), dp_options{.bucket_elements = 16}, per_layer{0.6}, TestType{},
                       listening(std::move(comm), heard), counter_gaussian{.noise_multiplier = 1, .seed = 7},
                       unscaled{}, no_accountant{});
      const std::vector<float> zeros(1500, 0.0f); // so that an exact sum is 0
      opt.begin({.samples = 1});
      for (isize p = 4; p >= 0; --p)
        if (rank != spoiler || p != 2)
          opt.gradient_ready(p, materialized<float>(zeros.data(), 1, toy_sizes()[static_cast<std::size_t>(p)]));
      if (spoiler < 0) opt.step();
      else thrown_text<rank_error>([&] { opt.step(); });
      by_rank[static_cast<std::size_t>(rank)] = *heard;
    });
    REQUIRE(error_texts(errors) == "");
    for (const auto& heard : by_rank) {
      CHECK(heard.size() == 1523);
      CHECK(std::ranges::count(heard, 0.0f) == 0);
    }
  }
}

TEST_CASE("a rank that goes away is an error on the others, not a wait without end") {
  const auto errors = run_ranks(3, [](threads comm) {
    const int rank = comm.rank();
    toy_model<double> model(toy_sizes());
    toy_feeder<double> feeder;
    auto opt = toy_optimizer<double, threads, running_sum<double>, as_ready>(model.views(), std::move(comm));
    feeder.feed(opt, 0, {{0, 1}}); // its reductions are under way
    if (rank == 2) throw std::runtime_error("left");
    opt.step();
  });
  CHECK(holds<communication_error>(errors[0]));
  CHECK(holds<communication_error>(errors[1]));
  CHECK(error_text(errors[2]) == "left");
}

// ---- configuration --------------------------------------------------------------------------------------------------

TEST_CASE("a configuration that differs on one rank is refused on all, by the name of the field") {
  for (const int w : {1, 2, 5})
    for (const difference& d : all_differences)
      for (int other = 0; other<w; other += w> 1 ? w - 1 : 1) {
        INFO(d.what << " on rank " << other << " of " << w);
        CHECK(broken_on(w, [&](threads c) { differing_configuration_is_refused(std::move(c), other, d); }) == "");
      }
}

TEST_CASE("a bad option on one rank is an error on all") {
  for (int w = 1; w <= most_ranks; ++w)
    for (int bad = 0; bad < w; ++bad)
      CHECK(broken_on(w, [&](threads c) { bad_option_is_shared(std::move(c), bad); }) == "");
}
