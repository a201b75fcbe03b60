// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// Every grouping with every rule, plain and rescaled, with bounds that stand still, learn, or follow a schedule.
#include "support/clipper_promises.hpp"

#include "dpopt/clipping/adaptive.hpp"
#include "dpopt/clipping/automatic.hpp"
#include "dpopt/clipping/drop_above.hpp"
#include "dpopt/clipping/flat.hpp"
#include "dpopt/clipping/per_group.hpp"
#include "dpopt/clipping/per_layer.hpp"
#include "dpopt/clipping/psac.hpp"
#include "dpopt/clipping/scheduled.hpp"
#include "dpopt/clipping/unit_norm.hpp"
#include "support/catch.hpp"

#include <utility>
#include <vector>

using namespace dpopt;
using namespace dpopt::test;

namespace {

constexpr double ratio = 3;
constexpr double limit = 5; // above every bound in use

/// Where some rule is at its greatest: far out, or just below Z for each bound in use and each factor of a schedule.
std::vector<double> adversarial_norms() {
  std::vector<double> norms{1e9, limit * (1 - 1e-12)};
  for (const double c : {0.7, 0.9, 0.4, 0.3, 0.2, 0.5})
    for (const double moved : {1.0, 2.0, 0.25, 1.5}) norms.push_back(ratio * c * moved * (1 - 1e-12));
  return norms;
}

/// Bounds that have moved: learned from a few steps, or at step 2 of a schedule.
template <class C>
void in_all_guises(const C& clipper) {
  const auto norms = adversarial_norms();
  CHECK_NOTHROW(keeps_every_promise(any_clipper(clipper), norms));

  adaptive learned{clipper, {.count_noise_std = 1, .expected_batch_size = across_ranks{8}}};
  std::vector<double> moved;
  for (const double factor : {1.5, 0.25, 2.0, 1.0}) moved.push_back(factor);
  learned.bind(promise_parameters());
  for (isize g = 0; g < learned.groups(); ++g)
    moved[static_cast<std::size_t>(g)] *= learned.bounds()[static_cast<std::size_t>(g)];
  moved.resize(static_cast<std::size_t>(learned.groups()));
  learned.restore(moved);
  CHECK_NOTHROW(keeps_every_promise(any_clipper(learned), norms));

  scheduled decayed{clipper, step_decay{1, 0.5}};
  decayed.bind(promise_parameters());
  decayed.start_step(2);
  const any_clipper bound(decayed);
  CHECK_NOTHROW(factors_are_bounded(bound));
  CHECK_NOTHROW(sensitivity_follows_bounds(bound));
}

template <class G>
void with_every_rule(const G& grouping) {
  in_all_guises(grouping);
  in_all_guises(automatic{grouping, 0.02});
  in_all_guises(psac{grouping, 0.05});
  in_all_guises(drop_above{grouping, ratio});
  in_all_guises(drop_above{grouping, norm_limit{limit}});
  in_all_guises(unit_norm{grouping});
  in_all_guises(unit_norm{automatic{grouping}});
  in_all_guises(unit_norm{psac{grouping}});
  in_all_guises(unit_norm{drop_above{grouping, ratio}});
}

} // namespace

TEST_CASE("flat clipping keeps its promises with every rule") { with_every_rule(flat{0.7}); }

TEST_CASE("clipping by layer keeps its promises with every rule") { with_every_rule(per_layer{{0.9, 0.4, 0.3, 0.2}}); }

TEST_CASE("clipping by group keeps its promises with every rule") {
  with_every_rule(per_group{{"conv", {"conv.*"}, 0.9}, {"rest", {"fc.*", "scale"}, 0.5}});
}

TEST_CASE("clipping weight and bias together keeps its promises") { in_all_guises(weight_and_bias(0.4)); }

TEST_CASE("a mistake in a clipper is seen by these checks") {
  struct sloppy : flat { // bounds each of two groups by C and claims C for both
    [[nodiscard]] isize groups() const noexcept { return 2; }
    [[nodiscard]] isize group_of(isize p) const noexcept { return p % 2; }
  };
  sloppy clipper;
  clipper.max_grad_norm = 0.7;
  CHECK_THROWS_WITH(keeps_every_promise(any_clipper(clipper), {1e9}), contains_text("sensitivity 0.7 of bounds 0.98"));
  any_clipper bound(clipper);
  bound.bind(promise_parameters());
  CHECK_THROWS_WITH(units_move_within(bound, 1), contains_text("removing moves by"));
  CHECK_THROWS_WITH(bound_is_reached(bound, {1e9}), contains_text("an adversary moves the sum"));
}
