// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// One logical batch in physical parts on 1 to 5 ranks, as virtual steps (signal_skip_step) or as microbatches of one
// step: each rank with its own number of parts. ranks_test.cpp has the microbatches' equality and collectives.
#include "dpopt/communication/threads.hpp"
#include "support/catch.hpp"
#include "support/probes.hpp"
#include "support/rank_promises.hpp"
#include "support/ranks.hpp"

#include <algorithm>
#include <cstddef>
#include <string>
#include <utility>
#include <vector>

using namespace dpopt;
using namespace dpopt::test;

namespace {

constexpr int most_ranks = 5;

/// `threads` that notes the length of each sum.
class noting {
public:
  using role = roles::communicator;
  using request = threads::request;

  noting(threads inner, journal& log) : inner_(std::move(inner)), log_(&log) {}
  [[nodiscard]] int rank() const noexcept { return inner_.rank(); }
  [[nodiscard]] int size() const noexcept { return inner_.size(); }
  template <WireNumber T>
  [[nodiscard]] request start_sum(T* values, isize n) {
    log_->sums.push_back(n);
    return inner_.start_sum(values, n);
  }
  void wait(request& started) { inner_.wait(started); }
  void broadcast(std::byte* bytes, isize n, int root) { inner_.broadcast(bytes, n, root); }
  void abandon() noexcept { inner_.abandon(); }

private:
  threads inner_;
  journal* log_;
};

/// One logical step on this rank's parts: all but the last of them are virtual steps.
template <class Opt>
void in_virtual_steps(Opt& opt, toy_feeder<double>& feeder, isize step, const microbatches& parts,
                      std::uint64_t seed = 0) {
  for (std::size_t m = 0; m < parts.size(); ++m) {
    const bool last = m + 1 == parts.size();
    opt.signal_skip_step(!last);
    feeder.feed(opt, step, {parts[m]}, seed);
    expect(opt.step() == last && opt.last_step_skipped() == !last, "all but the last are virtual");
  }
}

/// What was asked of the probes, by step.
struct step_record {
  journal in_parts; ///< before the last part's step()
  journal all;
};

template <class When>
std::vector<step_record> record_of(threads comm, isize steps, bool as_virtual_steps) {
  const int rank = comm.rank();
  const int ranks = comm.size();
  journal log;
  toy_model<double> model(toy_sizes());
  dp_optimizer opt(model.views(), dp_options{.bucket_elements = 16}, per_layer{0.6}, noting(std::move(comm), log),
                   probe_noise{.noise_multiplier = 0.8, .log = &log}, expected_batch{across_ranks{double{toy_samples}}},
                   sgd{.learning_rate = 0.5}, When{}, probe_accountant{.log = &log});
  toy_feeder<double> feeder;
  std::vector<step_record> out;
  for (isize s = 0; s < steps; ++s) {
    log = {};
    step_record record;
    const microbatches parts = uneven_share(toy_samples, s, rank, ranks);
    if (as_virtual_steps) {
      microbatches before(parts.begin(), parts.end() - 1);
      for (const auto& part : before) {
        opt.signal_skip_step();
        feeder.feed(opt, s, {part});
        opt.step();
      }
      record.in_parts = log;
      feeder.feed(opt, s, {parts.back()});
    } else {
      for (std::size_t m = 0; m < parts.size(); ++m) {
        opt.begin({.samples = std::ssize(parts[m]), .last = m + 1 == parts.size()});
        if (m + 1 == parts.size()) record.in_parts = log;
        feeder.hand_over(opt, s, parts[m]);
      }
    }
    opt.step();
    record.all = log;
    out.push_back(record);
  }
  return out;
}

} // namespace

TEMPLATE_TEST_CASE("virtual steps on any number of ranks, each with its own number, equal the one big batch", "",
                   as_ready, at_step) {
  const toy_result<double> whole = toy_train<double>(
      toy_steps,
      [](const auto& views) { return toy_optimizer<double, serial, integer_grid, TestType>(views, serial{}); },
      [](isize) { return all_at_once(toy_samples); });
  for (int w = 1; w <= most_ranks; ++w) {
    const auto errors = run_ranks(w, [&](threads comm) {
      const int rank = comm.rank();
      const int ranks = comm.size();
      toy_model<double> model(toy_sizes());
      auto opt = toy_optimizer<double, threads, integer_grid, TestType>(model.views(), std::move(comm));
      toy_feeder<double> feeder;
      toy_result<double> parts;
      for (isize s = 0; s < toy_steps; ++s) {
        in_virtual_steps(opt, feeder, s, uneven_share(toy_samples, s, rank, ranks),
                         static_cast<std::uint64_t>(rank + 1));
        parts.released.push_back(model.all_gradients());
        expect(opt.accumulated_iterations() == 1, "one logical batch, not ", opt.accumulated_iterations());
        expect(opt.updates() == static_cast<std::uint64_t>(s + 1), "one update a step");
      }
      parts.values = model.all_values();
      expect(distance(parts, whole) == 0, "the bits of the one big batch, not ", distance(parts, whole), " away");
    });
    CHECK(error_texts(errors) == "");
  }
}

TEMPLATE_TEST_CASE(
    "virtual steps and microbatches: however many parts a rank has: noise once, one charge, the same collectives", "",
    as_ready, at_step) {
  constexpr isize steps = 6;
  const std::vector<isize> sizes = toy_sizes();
  const double std = 0.8 * 0.6 * std::sqrt(static_cast<double>(sizes.size())); // multiplier x sqrt(sum C^2)
  for (int w = 1; w <= most_ranks; ++w)
    for (const bool as_virtual_steps : {false, true}) {
      INFO(w << " ranks, " << (as_virtual_steps ? "virtual steps" : "microbatches"));
      std::vector<std::vector<step_record>> by_rank(static_cast<std::size_t>(w));
      const auto errors = run_ranks(w, [&](threads comm) {
        const auto rank = static_cast<std::size_t>(comm.rank());
        by_rank[rank] = record_of<TestType>(std::move(comm), steps, as_virtual_steps);
      });
      REQUIRE(error_texts(errors) == "");
      for (const auto& records : by_rank)
        for (std::size_t s = 0; s < steps; ++s) {
          const step_record& r = records[s];
          CHECK(r.in_parts.noise.empty());
          CHECK(r.in_parts.charged.empty());
          CHECK(r.in_parts.sums.empty());
          REQUIRE(r.all.charged.size() == 1);
          CHECK(r.all.charged[0].noise_multiplier == 0.8);
          CHECK(r.all.charged[0].count == 1);
          CHECK(r.all.sums == by_rank[0][0].all.sums);
          std::vector<std::vector<int>> drawn(sizes.size()); // how often each number got its noise
          for (std::size_t p = 0; p < sizes.size(); ++p) drawn[p].assign(static_cast<std::size_t>(sizes[p]), 0);
          for (const auto& call : r.all.noise) {
            if (call.std == 1.0 && call.count == 1) continue; // the probe of the stream's end, thrown away
            CHECK(call.std == Approx(std));
            CHECK(call.where.step == s);
            for (isize k = 0; k < call.count; ++k)
              ++drawn[call.where.parameter][call.where.element + static_cast<std::size_t>(k)];
          }
          for (const auto& counts : drawn) CHECK(std::ranges::all_of(counts, [](int n) { return n == 1; }));
        }
    }
}

TEST_CASE("virtual steps: a rank whose every part is empty takes part all the same") {
  for (int w = 2; w <= most_ranks; ++w) {
    const auto errors = run_ranks(w, [&](threads comm) {
      const bool idle = comm.rank() == 0;
      toy_model<double> model(toy_sizes());
      auto opt = toy_optimizer<double, threads, integer_grid, as_ready>(model.views(), std::move(comm));
      toy_feeder<double> feeder;
      in_virtual_steps(opt, feeder, 0, idle ? microbatches{{}, {}, {}} : microbatches{{0, 1, 2}});
      expect(alike(opt.communicator(), model.all_values()), "the same bits on every rank");
      expect(model.all_gradients()[0] != 0, "something was released");
    });
    CHECK(error_texts(errors) == "");
  }
}

TEST_CASE("virtual steps: an error in a virtual step is raised by the next real one, on all ranks") {
  for (int w = 1; w <= most_ranks; ++w) {
    const auto errors = run_ranks(w, [&](threads comm) {
      const bool spoils = comm.rank() == comm.size() - 1;
      toy_model<double> model(toy_sizes());
      auto opt = toy_optimizer<double, threads, running_sum<double>, as_ready>(model.views(), std::move(comm));
      toy_feeder<double> feeder;
      opt.signal_skip_step();
      opt.begin({.samples = 2});
      feeder.hand_over(opt, 0, {0, 1}, 0, spoils ? 2 : -1);
      opt.step();
      feeder.feed(opt, 0, {{2}});
      opt.step();
    });
    for (const auto& e : errors) CHECK(error_text(e).find("no gradient for 'layer 2'") != std::string::npos);
  }
}
