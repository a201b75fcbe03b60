// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// What ranks compare of a base optimizer in each step.
#include "dpopt/dp_optimizer/configuration.hpp"

#include "support/catch.hpp"

#include "dpopt/optimizers/adagrad.hpp"
#include "dpopt/optimizers/adam.hpp"
#include "dpopt/optimizers/adam_bc.hpp"
#include "dpopt/optimizers/adamw.hpp"
#include "dpopt/optimizers/amsgrad.hpp"
#include "dpopt/optimizers/exponential_average.hpp"
#include "dpopt/optimizers/rmsprop.hpp"
#include "dpopt/optimizers/scale_then_privatize.hpp"
#include "dpopt/optimizers/sgd.hpp"

#include <cstdint>
#include <set>
#include <string>
#include <type_traits>

using namespace dpopt;
using detail::policy_digest;

namespace {

/// sgd with words of its own and an option that sgd does not know.
struct derived : sgd {
  int more = 0;
  [[nodiscard]] std::string describe() const { return message("derived(more=", more, ")"); }
};
static_assert(ShowsOptions<sgd> && ShowsOptions<exponential_average<adam>> && ShowsOptions<scale_then_privatize<sgd>>);

/// Every option changed by itself gives a digest of its own.
template <class B, class... Option>
void each_counts(Option B::*... options) {
  std::set<std::uint64_t> digests{policy_digest(B{})};
  const auto changed = [&](auto option) {
    B b{};
    if constexpr (requires { b.*option = true; } && std::is_same_v<decltype(b.*option), bool&>)
      b.*option = !(b.*option);
    else b.*option += 1;
    digests.insert(policy_digest(b));
  };
  (changed(options), ...);
  CHECK(digests.size() == sizeof...(options) + 1);
}

} // namespace

TEST_CASE("each option of each base optimizer is compared between ranks") {
  each_counts(&sgd::learning_rate, &sgd::momentum, &sgd::dampening, &sgd::weight_decay, &sgd::nesterov, &sgd::maximize);
  each_counts(&adam::learning_rate, &adam::beta1, &adam::beta2, &adam::eps, &adam::weight_decay, &adam::maximize);
  each_counts(&adamw::learning_rate, &adamw::beta1, &adamw::beta2, &adamw::eps, &adamw::weight_decay, &adamw::maximize);
  each_counts(&amsgrad::learning_rate, &amsgrad::beta1, &amsgrad::beta2, &amsgrad::eps, &amsgrad::weight_decay,
              &amsgrad::decoupled, &amsgrad::maximize);
  each_counts(&adam_bc::learning_rate, &adam_bc::beta1, &adam_bc::beta2, &adam_bc::floor, &adam_bc::weight_decay,
              &adam_bc::maximize);
  each_counts(&adagrad::learning_rate, &adagrad::lr_decay, &adagrad::weight_decay, &adagrad::initial_accumulator_value,
              &adagrad::eps, &adagrad::maximize);
  each_counts(&rmsprop::learning_rate, &rmsprop::alpha, &rmsprop::eps, &rmsprop::weight_decay, &rmsprop::momentum,
              &rmsprop::centered, &rmsprop::maximize);
  each_counts(&exponential_average<adam>::decay);
  using scaled = scale_then_privatize<sgd>;
  each_counts(&scaled::beta, &scaled::eps, &scaled::delay);
  CHECK(policy_digest(exponential_average<adam>{adam{.eps = 1}}) != policy_digest(exponential_average<adam>{}));
  CHECK(sgd{.learning_rate = 0.5}.describe() ==
        "sgd(learning_rate=0.5, momentum=0, dampening=0, weight_decay=0, nesterov=false, maximize=false)");
}

TEST_CASE("an optimizer derived from one is compared by its words, and one without words by its type") {
  derived more;
  more.more = 1;
  CHECK(policy_digest(more) != policy_digest(derived{}));
  CHECK(policy_digest(exponential_average<derived>{more}) != policy_digest(exponential_average<derived>{}));
  const auto one = [](const parameter_update<float>&) {};
  const auto other = [](const parameter_update<float>&) {};
  CHECK(policy_digest(one) == policy_digest(one));
  CHECK(policy_digest(one) != policy_digest(other));
}
