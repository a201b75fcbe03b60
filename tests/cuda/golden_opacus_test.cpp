// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// compiled alone: it adds to the library's namespace.
// Every recorded run of Opacus, end to end on the recording device: per layer and flat, float and double, one to three
// ranks, each of torch's optimizers inside the fused kernel.
#include "support/device_ranks.hpp"
#include "support/device_trainer.hpp"

#include "support/catch.hpp"

#include "dpopt/accounting/no_accountant.hpp"
#include "dpopt/clipping/per_layer.hpp"
#include "dpopt/core/platform.hpp"
#include "support/golden_suite.hpp"
#include "support/ranks.hpp"

#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>
#include <variant>
#include <vector>

namespace dpopt::testing {

/// One of the core's optimizers, chosen when the test runs, so that one instance of the kernel serves all cases.
struct any_step {
  std::variant<sgd_step, detail::adam_step<2>, detail::adam_step<3>, rmsprop_step, adagrad_step> step;

  template <class T>
  void update(T* x, const T* g, std::array<T*, 3> s, isize n) const { // what ElementwiseOptimizer asks for
    std::visit(
        [&](const auto& one) {
          if constexpr (requires { one.update(x, g, s, n); }) one.update(x, g, s, n);
        },
        step);
  }
};

template <class T>
struct any_update {
  using value_type = T;
  static constexpr std::size_t slots = 3;
  std::variant<cuda::sgd_update<T>, cuda::adam_update<T, 2>, cuda::adam_update<T, 3>,
               decltype(cuda::element_update<T>(std::declval<const rmsprop_step&>())),
               decltype(cuda::element_update<T>(std::declval<const adagrad_step&>()))>
      update;

  [[nodiscard]] DPOPT_DEVICE constexpr bool uses(std::size_t slot) const {
    bool used = false;
    of_chosen([&](const auto& u) { used = slot < std::remove_cvref_t<decltype(u)>::slots && u.uses(slot); });
    return used;
  }
  DPOPT_DEVICE constexpr void operator()(T& x, T g, std::array<T, 3>& state) const {
    of_chosen([&](const auto& u) {
      cuda::element_state<T, std::remove_cvref_t<decltype(u)>::slots> own{};
      for (std::size_t s = 0; s < own.size(); ++s) own[s] = state[s];
      u(x, g, own);
      for (std::size_t s = 0; s < own.size(); ++s) state[s] = own[s];
    });
  }

private:
  /// std::visit, whose table of functions is the host's.
  template <std::size_t I = 0, class F>
  DPOPT_DEVICE constexpr void of_chosen(F f) const {
    if constexpr (I < std::variant_size_v<decltype(update)>) {
      if (const auto* chosen = std::get_if<I>(&update)) f(*chosen);
      else of_chosen<I + 1>(f);
    }
  }
};

template <class T>
[[nodiscard]] any_update<T> element_update(const any_step& step) {
  return std::visit([](const auto& one) { return any_update<T>{cuda::element_update<T>(one)}; }, step.step);
}

struct any_elementwise {
  using role = roles::base_optimizer;
  static constexpr std::size_t slots = 3;
  std::variant<sgd, adam, adamw, amsgrad, rmsprop, adagrad> base;

  void validate() const {
    std::visit([](const auto& b) { b.validate(); }, base);
  }
  [[nodiscard]] any_step at(std::uint64_t t) const {
    return std::visit([&](const auto& b) { return any_step{b.at(t)}; }, base);
  }
};

namespace {

/// Each type in one way to skip steps, by step() alone and by pre_step().
template <class T, class Clipper>
void check_on_device(const golden_case& c, const Clipper& clipper) {
  constexpr double tolerance = std::is_same_v<T, float> ? 2e-5 : 1e-12;
  any_elementwise base;
  with_optimizer(c.optimizer, [&](const auto& b) { base.base = b; });
  for (const replay_style& style : replay_styles) {
    if (style.skip_steps == std::is_same_v<T, float>) continue;
    std::vector<deviation> by_rank(static_cast<std::size_t>(c.world));
    const auto errors = test::run_ranks(c.world, [&](threads comm) {
      const auto rank = static_cast<std::size_t>(comm.rank());
      by_rank[rank] = replay<T>(c, rank, style, [&](const std::vector<parameter_view<T>>& views, const dp_options& o) {
        return device_trainer(views, o, recording_api{}, Clipper(clipper), counter_gaussian{.noise_multiplier = 0},
                              scaling_of(c), base, device_ranks(std::move(comm)), no_accountant{});
      });
    });
    INFO(c.name << ", " << style.name << ", " << (std::is_same_v<T, float> ? "float" : "double"));
    REQUIRE(test::error_texts(errors) == "");
    deviation d;
    for (const deviation& one : by_rank) d.merge(one);
    check_deviation(d, tolerance);
  }
}

template <class T>
isize check_all(const std::string& kind) {
  isize cases = 0;
  for (const golden_case& c : golden_cases()) {
    if (c.kind != kind) continue;
    ++cases;
    if (kind == "flat") check_on_device<T>(c, flat{c.max_grad_norm.front()});
    else check_on_device<T>(c, per_layer{c.max_grad_norm});
  }
  return cases;
}

} // namespace
} // namespace dpopt::testing

TEST_CASE("on a device every recorded flat run of Opacus is reproduced in double") {
  CHECK(dpopt::testing::check_all<double>("flat") > 0);
}
TEST_CASE("on a device every recorded flat run of Opacus is reproduced in float") {
  CHECK(dpopt::testing::check_all<float>("flat") > 0);
}
TEST_CASE("on a device every recorded per-layer run of Opacus is reproduced in double") {
  CHECK(dpopt::testing::check_all<double>("per_layer") > 0);
}
TEST_CASE("on a device every recorded per-layer run of Opacus is reproduced in float") {
  CHECK(dpopt::testing::check_all<float>("per_layer") > 0);
}
