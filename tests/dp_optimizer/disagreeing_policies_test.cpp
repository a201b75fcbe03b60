// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// Policies of a user's that fail or differ on one rank alone: all ranks hear of it, and nothing is charged twice.
#include "support/catch.hpp"
#include "support/probes.hpp"
#include "support/ranks.hpp"

#include "dpopt/clipping/adaptive.hpp"
#include "dpopt/dp_optimizer/dp_optimizer.hpp"

#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

using namespace dpopt;
using namespace dpopt::test;

namespace {

/// Says the same on all ranks and has a message of its own on one.
struct longer_message : adaptive<flat> {
  isize more = 0;
  longer_message(adaptive<flat> usual, isize scalars) : adaptive<flat>(std::move(usual)), more(scalars) {}
  [[nodiscard]] isize side_scalars() const noexcept { return adaptive<flat>::side_scalars() + more; }
};

adaptive<flat> learning() { return {flat{1.0}, {.count_noise_std = 5, .expected_batch_size = per_rank(2)}}; }

/// Plain descent that cannot always put itself in words.
struct speechless {
  using role = roles::base_optimizer;
  bool fails = false;
  [[nodiscard]] std::string describe() const {
    return fails ? throw std::runtime_error("no words for it") : "speechless";
  }
  void operator()(parameter_update<double> p) const {
    for (std::size_t i = 0; i < p.value.size(); ++i) p.value[i] -= p.gradient[i];
  }
};

/// Fails at the clipper's scalars alone, which are noised after the accountant was told.
struct fails_at_scalars : probe_noise {
  void add(const address& where, double std, double* x, isize n) {
    if (where.what == purpose::side_scalars) throw randomness_error("no noise for the scalars");
    probe_noise::add(where, std, x, n);
  }
};

} // namespace

TEST_CASE("ranks whose messages differ in length are told so at construction, though their policies say the same") {
  const auto errors = run_ranks(3, [](threads ranks) {
    small_model model;
    const int rank = ranks.rank();
    dp_optimizer opt(model.views(), dp_options{}, longer_message(learning(), rank == 1 ? 1 : 0),
                     counter_gaussian{.noise_multiplier = 1}, unscaled{}, std::move(ranks));
  });
  for (const auto& error : errors)
    CHECK(error_text(error) == "configuration differs between ranks: lengths of messages (rank 1 differs from rank 0); "
                               "give all ranks the same options");
}

TEST_CASE("a policy that cannot be put in words on one rank is an error of all, at construction and in a step") {
  const bool late = GENERATE(false, true);
  std::vector<int> released(3, 0);
  const auto errors = run_ranks(3, [&](threads ranks) {
    small_model model;
    const auto rank = static_cast<std::size_t>(ranks.rank());
    dp_optimizer opt(model.views(), dp_options{}, flat{1.0}, counter_gaussian{.noise_multiplier = 1}, unscaled{},
                     speechless{!late && rank == 2}, std::move(ranks));
    opt.base_optimizer().fails = rank == 2;
    opt.begin({.samples = 0});
    opt.step();
    released[rank] = 1;
  });
  CHECK(released == std::vector<int>(3, 0));
  for (const auto& error : errors) {
    CHECK(holds<rank_error>(error));
    CHECK(error_text(error) == "rank 2: no words for it (1 of 3 ranks failed)");
  }
}

TEST_CASE("a step whose scalars get no noise is charged once") {
  small_model model;
  journal log;
  dp_optimizer opt(model.views(), dp_options{}, learning(), fails_at_scalars{{1, &log}}, root_before_reduction{},
                   probe_accountant{&log}, unscaled{});
  opt.begin({.samples = 0});
  CHECK_THROWS_WITH(opt.step(), "no noise for the scalars");
  CHECK(log.charged.size() == 1);
}
