// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// From the name and arguments of a torch.optim optimizer, as the golden cases give them, to dpopt's.
#pragma once

#include "dpopt/optimizers/adagrad.hpp"
#include "dpopt/optimizers/adam.hpp"
#include "dpopt/optimizers/adamw.hpp"
#include "dpopt/optimizers/amsgrad.hpp"
#include "dpopt/optimizers/rmsprop.hpp"
#include "dpopt/optimizers/sgd.hpp"

#include <nlohmann/json.hpp>

#include <set>
#include <stdexcept>
#include <string>
#include <utility>

namespace dpopt::testing {

/// Hands out the arguments of one optimizer by torch's names and remembers which were asked for.
class optimizer_arguments {
public:
  explicit optimizer_arguments(const nlohmann::json& json) : json_(json) {}

  /// The argument, or torch's default when the case does not give it.
  template <class V>
  V take(const char* key, V standard) {
    used_.insert(key);
    return json_.contains(key) ? json_.at(key).get<V>() : standard;
  }

  /// @throw std::runtime_error if an argument was given that nobody asked for: it would be ignored in silence.
  void finish() const {
    for (const auto& [key, value] : json_.items()) {
      if (key != "type" && !used_.contains(key)) throw std::runtime_error("unknown optimizer argument: " + key);
    }
  }

private:
  const nlohmann::json& json_;
  std::set<std::string> used_;
};

/// Calls f(optimizer) with the dpopt optimizer that the JSON means ("sgd_*" is SGD, "amsgrad" is Adam).
/// @throw std::runtime_error on an unknown type or argument.
template <class F>
void with_optimizer(const nlohmann::json& json, F&& f) {
  const std::string type = json.at("type").get<std::string>();
  optimizer_arguments args(json);
  const auto call = [&](const auto& optimizer) {
    args.finish();
    std::forward<F>(f)(optimizer);
  };
  const bool maximize = args.take("maximize", false);
  if (type == "sgd" || type.starts_with("sgd_")) {
    const sgd d;
    return call(sgd{.learning_rate = args.take("lr", d.learning_rate),
                    .momentum = args.take("momentum", d.momentum),
                    .dampening = args.take("dampening", d.dampening),
                    .weight_decay = args.take("weight_decay", d.weight_decay),
                    .nesterov = args.take("nesterov", d.nesterov),
                    .maximize = maximize});
  }
  if (type == "rmsprop") {
    const rmsprop d;
    return call(rmsprop{.learning_rate = args.take("lr", d.learning_rate),
                        .alpha = args.take("alpha", d.alpha),
                        .eps = args.take("eps", d.eps),
                        .weight_decay = args.take("weight_decay", d.weight_decay),
                        .momentum = args.take("momentum", d.momentum),
                        .centered = args.take("centered", d.centered),
                        .maximize = maximize});
  }
  if (type == "adagrad") {
    const adagrad d;
    return call(
        adagrad{.learning_rate = args.take("lr", d.learning_rate),
                .lr_decay = args.take("lr_decay", d.lr_decay),
                .weight_decay = args.take("weight_decay", d.weight_decay),
                .initial_accumulator_value = args.take("initial_accumulator_value", d.initial_accumulator_value),
                .eps = args.take("eps", d.eps),
                .maximize = maximize});
  }
  if (type != "adam" && type != "adamw" && type != "amsgrad") {
    throw std::runtime_error("unknown optimizer type: " + type);
  }
  const adam d;
  const auto [beta1, beta2] = args.take("betas", std::pair(d.beta1, d.beta2));
  const double rate = args.take("lr", d.learning_rate);
  const double eps = args.take("eps", d.eps);
  const double decay = args.take("weight_decay", type == "adamw" ? adamw{}.weight_decay : d.weight_decay);
  const bool with_maximum = args.take("amsgrad", type == "amsgrad");
  if (with_maximum) return call(amsgrad{rate, beta1, beta2, eps, decay, type == "adamw", maximize});
  if (type == "adamw") return call(adamw{rate, beta1, beta2, eps, decay, maximize});
  call(adam{rate, beta1, beta2, eps, decay, maximize});
}

} // namespace dpopt::testing
