// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// What the constructors refuse, and in which words. Wrong options on one rank of several: ranks_test.cpp.
#include "dpopt/dp_optimizer/per_layer_optimizers.hpp"

#include "dpopt/accumulation/integer_grid.hpp"
#include "support/catch.hpp"
#include "support/probes.hpp"

#include <cstdint>
#include <limits>
#include <memory>
#include <span>
#include <string>
#include <utility>
#include <vector>

using namespace dpopt;
using namespace dpopt::test;

namespace {

constexpr double nan_value = std::numeric_limits<double>::quiet_NaN();
constexpr double infinite = std::numeric_limits<double>::infinity();

per_layer_options good() { return {.noise_multiplier = 1.1, .max_grad_norm = 1.0, .expected_batch_size = 64}; }

// What a constructor says; empty when it is content.
template <class Make>
std::string refusal(Make make) {
  try {
    make();
  } catch (const invalid_argument& e) {
    return e.what();
  }
  return "";
}

// Both presets must say the same. Afterwards the model is free again.
std::string refused(small_model& model, const per_layer_options& options, const sgd& base = {}) {
  const auto as_ready_says = refusal([&] { distributed_per_layer_optimizer(model.views(), base, options); });
  const auto at_step_says = refusal([&] { simple_distributed_per_layer_optimizer(model.views(), base, options); });
  CHECK(as_ready_says == at_step_says);
  CHECK_NOTHROW(distributed_per_layer_optimizer(model.views(), sgd{}, good()));
  return as_ready_says;
}

std::string refused(const per_layer_options& options, const sgd& base = {}) {
  small_model model;
  return refused(model, options, base);
}

template <class Change>
per_layer_options with(Change change) {
  per_layer_options options = good();
  change(options);
  return options;
}

} // namespace

TEST_CASE("good options are accepted, in every form of a bound") {
  CHECK(refused(good()).empty());
  CHECK(refused(with([](auto& o) { o.max_grad_norm = {1.0, 2.0, 3.0}; })).empty());
  CHECK(refused(with([](auto& o) { o.max_grad_norm = {{"scale", 3.0}, {"weight", 1.0}, {"bias", 2.0}}; })).empty());
  CHECK(refused(with([](auto& o) { o.noise_multiplier = 0; })).empty());
  CHECK(refused(with([](auto& o) { o.expected_batch_size = across_ranks(62.5); })).empty());
  CHECK(refused(with([](auto& o) { o.generator = philox_generator{1}; })).empty());
  CHECK(refused(with([](auto& o) { o.secure_mode = true; })).empty());
  CHECK(refused(with([](auto& o) {
          o.expected_batch_size = {};
          o.loss_reduction = loss_reduction::sum;
        })).empty());
}

TEST_CASE("noise_multiplier is required, finite and not negative") {
  const auto said = [](double m) { return refused(with([m](auto& o) { o.noise_multiplier = m; })); };
  const std::string rest = ": give the noise's standard deviation over the sensitivity, a finite number >= 0";
  CHECK(said(-0.5) == "noise_multiplier is -0.5" + rest);
  CHECK(said(infinite) == "noise_multiplier is inf" + rest);
  CHECK(said(nan_value) == "noise_multiplier is nan" + rest);
  CHECK(refused({.max_grad_norm = 1.0, .expected_batch_size = 64}) == "noise_multiplier is nan" + rest);
}

TEST_CASE("max_grad_norm is required, positive, and complete") {
  const auto said = [](clip_bounds b) { return refused(with([&b](auto& o) { o.max_grad_norm = b; })); };
  CHECK(refused({.noise_multiplier = 1.0, .expected_batch_size = 64}) ==
        "max_grad_norm: not given; give one bound for all or one a parameter");
  CHECK(said(0.0) == "max_grad_norm of 'weight' is 0; give a finite bound above 0");
  CHECK(said(-1.0) == "max_grad_norm of 'weight' is -1; give a finite bound above 0");
  CHECK(said({1.0, nan_value, 1.0}) == "max_grad_norm of 'bias' is nan; give a finite bound above 0");
  CHECK(said({1.0, 1.0, infinite}) == "max_grad_norm of 'scale' is inf; give a finite bound above 0");
  CHECK(said({1.0, 2.0}) == "max_grad_norm: 2 bounds for 3 parameters; give one for all, one each, or name them");
  CHECK(said({1.0, 2.0, 3.0, 4.0}) ==
        "max_grad_norm: 4 bounds for 3 parameters; give one for all, one each, or name them");
  CHECK(said({{"weight", 1.0}, {"bias", 1.0}}) == "max_grad_norm: no bound for 'scale'; add one");
  CHECK(said({{"weight", 1.0}, {"bais", 1.0}, {"scale", 1.0}}) == "max_grad_norm: no parameter is named 'bais'");
  CHECK(said({{"weight", 1.0}, {"bias", 1.0}, {"scale", 1.0}, {"weight", 2.0}}) ==
        "max_grad_norm: 'weight' is given twice");
}

TEST_CASE("expected_batch_size is required with mean, and a finite number above 0") {
  const auto said = [](batch_size b) { return refused(with([b](auto& o) { o.expected_batch_size = b; })); };
  CHECK(said({}) == "expected_batch_size: not given, but loss_reduction is mean; give per_rank(samples) or "
                    "across_ranks(samples), or use loss_reduction::sum");
  CHECK(said(0) == "expected_batch_size: 0 is not a finite number above 0");
  CHECK(said(per_rank(-64)) == "expected_batch_size: -64 is not a finite number above 0");
  CHECK(said(across_ranks(nan_value)) == "expected_batch_size: nan is not a finite number above 0");
  CHECK(said(infinite) == "expected_batch_size: inf is not a finite number above 0");
}

TEST_CASE("secure_mode refuses a generator, as a known seed would undo it") {
  CHECK(refused(with([](auto& o) {
          o.secure_mode = true;
          o.generator = philox_generator{7};
        })) == "secure_mode draws its own key: leave generator empty");
}

TEST_CASE("options of the base optimizer are checked as well") {
  CHECK(refused(good(), sgd{.learning_rate = -0.1}) == "sgd: learning_rate is -0.1; use a finite number, 0 or more");
  CHECK(refused(good(), sgd{.learning_rate = nan_value}) ==
        "sgd: learning_rate is nan; use a finite number, 0 or more");
  CHECK(refused(good(), sgd{.momentum = -1}) == "sgd: momentum is -1; use a finite number, 0 or more");
  CHECK(refused(good(), sgd{.nesterov = true}) == "sgd: momentum is 0; use more than 0 with nesterov");
}

TEST_CASE("bucket_elements is at least 1") {
  CHECK(refused(with([](auto& o) { o.other.bucket_elements = 0; })) == "bucket_elements: 0 is below 1; give 1 or more");
  CHECK(refused(with([](auto& o) { o.other.bucket_elements = -5; })) ==
        "bucket_elements: -5 is below 1; give 1 or more");
  CHECK(refused(with([](auto& o) { o.other.bucket_elements = 1; })).empty());
}

TEST_CASE("an accountant's own options are checked") {
  small_model model;
  const auto make = [&](std::vector<double> orders) {
    return refusal([&] {
      distributed_per_layer_optimizer(model.views(), sgd{}, good(), serial{}, rdp_accountant(std::move(orders)));
    });
  };
  CHECK(make({2, 0.5}) == "rdp_accountant: order 0.5 is not a finite number above 1");
  CHECK(make({}) == "rdp_accountant: the list of orders is empty; give one or more");
  CHECK(make({2, 3}).empty());
}

TEST_CASE("the list of parameters must make sense") {
  small_model model;
  const auto made_of = [](std::vector<parameter_view<double>> views) {
    return refusal([&] { distributed_per_layer_optimizer(views, sgd{}, good()); });
  };
  CHECK(made_of({}) == "parameters: the list is empty; give at least one parameter");
  CHECK(made_of({{"a", model.weight}, {"a", model.bias}}) == "parameters: two are named 'a'; give each its own name");
  CHECK(made_of({{"", model.weight}}) == "parameters: a name is empty; bounds and errors go by name");
  CHECK(made_of({{"a", model.weight, model.bias}}) ==
        "parameter 'a': gradient holds 2 elements and value 4; give equal sizes or no gradient");
  CHECK(
      made_of({{"encoder", model.weight}, {"decoder", model.weight}}) ==
      "parameter 'decoder' already belongs to a live optimizer or is listed twice; destroy the other optimizer first, "
      "or list a tied parameter once");
  const std::span<double> part(model.weight.data() + 1, 2);
  CHECK_FALSE(made_of({{"whole", model.weight}, {"part", part}}).empty());
  CHECK(made_of({{"a", model.weight}, {"b", model.bias}}).empty());
}

TEST_CASE("a parameter belongs to one live optimizer, whatever its type") {
  small_model model;
  small_model other;
  const auto alive = std::make_unique<distributed_per_layer_optimizer<double, sgd>>(model.views(), sgd{}, good());
  const std::string text =
      "parameter 'weight' already belongs to a live optimizer or is listed twice; destroy the other "
      "optimizer first, or list a tied parameter once";
  CHECK(refusal([&] { distributed_per_layer_optimizer(model.views(), sgd{}, good()); }) == text);
  CHECK(refusal([&] {
          dp_optimizer(model.views_without_gradients(), dp_options{}, flat{1.0}, counter_gaussian{1.0},
                       expected_batch{.expected_batch_size = 1});
        }) == text);
  CHECK_NOTHROW(distributed_per_layer_optimizer(other.views(), sgd{}, good()));
}

TEST_CASE("a constructor that failed leaves the parameters free") {
  small_model model;
  for (int round = 0; round < 3; ++round) {
    CHECK_FALSE(refused(model, with([](auto& o) { o.noise_multiplier = -1; })).empty());
    CHECK_FALSE(refused(model, with([](auto& o) { o.max_grad_norm = {1.0, 2.0}; })).empty());
  }
}

TEST_CASE("without the presets: what has no default must be given") {
  small_model model;
  const expected_batch mean{.expected_batch_size = 1};
  CHECK(refusal([&] { dp_optimizer(model.views(), dp_options{}, flat{1.0}, mean); }) ==
        "noise_multiplier is nan: give the noise's standard deviation over the sensitivity, a finite number >= 0");
  CHECK(refusal([&] { dp_optimizer(model.views(), dp_options{}, counter_gaussian{1.0}, mean); }) ==
        "max_grad_norm of flat clipping is nan; give a finite bound above 0");
  CHECK(
      refusal([&] { dp_optimizer(model.views(), dp_options{}, flat{1.0}, counter_gaussian{1.0}); }) ==
      "expected_batch_size: not given, but loss_reduction is mean; give per_rank(samples) or across_ranks(samples), or "
      "use loss_reduction::sum");
  CHECK_NOTHROW(dp_optimizer(model.views(), dp_options{}, flat{1.0}, counter_gaussian{1.0}, unscaled{}));
}

TEST_CASE("policies come in any order") {
  small_model model;
  CHECK_NOTHROW(dp_optimizer(model.views(), dp_options{}, unscaled{}, at_step{}, counter_gaussian{1.0}, flat{1.0}));
  CHECK_NOTHROW(dp_optimizer(model.views(), dp_options{}, flat{1.0}, counter_gaussian{1.0}, at_step{}, unscaled{}));
}

TEST_CASE("settings of the integer grid that could overflow are refused") {
  small_model model;
  CHECK(
      refusal([&] {
        dp_optimizer(model.views(), dp_options{}, flat{1.0}, counter_gaussian{1.0}, unscaled{}, integer_grid(50, 1e6));
      }) == "integer_grid: fraction_bits 50 with max_units 1e+06 could overflow; keep fraction_bits + log2(max_units) "
            "within 62");
}

TEST_CASE("the effective configuration is printable, and holds no seed") {
  small_model model;
  const std::uint64_t seed = 987654321987654321u;
  distributed_per_layer_optimizer opt(model.views(), sgd{},
                                      with([&](auto& o) { o.generator = philox_generator{seed}; }));
  const std::string text = opt.describe();
  for (const char* part : {"weight[4], bias[2], scale[1]", "per_layer(max_grad_norm=[1, 1, 1])", "multiplier 1.1",
                           "expected_batch(per_rank(64), mean)", "replicated", "as_ready", "add_remove", "double"}) {
    INFO(part);
    CHECK(text.find(part) != std::string::npos);
  }
  CHECK(text.find(std::to_string(seed)) == std::string::npos);
  CHECK(opt.privacy_statement(1e-5).find(std::to_string(seed)) == std::string::npos);
}

TEST_CASE("a reproducible run is flagged wherever its epsilon is printed, others are not") {
  small_model model;
  {
    distributed_per_layer_optimizer opt(model.views(), sgd{}, with([](auto& o) { o.generator = philox_generator{1}; }));
    CHECK(opt.reproducible());
    CHECK(opt.privacy_statement(1e-5).find("(reproducible run: not a private release)") != std::string::npos);
  }
  for (const bool secure : {true, false}) {
    distributed_per_layer_optimizer opt(model.views(), sgd{}, with([&](auto& o) { o.secure_mode = secure; }));
    CHECK_FALSE(opt.reproducible());
    CHECK(opt.privacy_statement(1e-5).find("reproducible") == std::string::npos);
  }
}
