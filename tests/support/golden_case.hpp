// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// One recorded training run of Opacus: configuration, per-sample gradients of every rank, and what each step gave.
#pragma once

#include "dpopt/core/types.hpp"
#include "support/golden_files.hpp"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

namespace dpopt::testing {

using numbers = std::vector<double>;
using per_parameter = std::vector<numbers>; ///< row-major values of each parameter

/// What one rank recorded at one step.
struct golden_step {
  per_parameter summed_grad; ///< sum of clipped gradients; Opacus rescales it in place on ranks other than 0
  per_parameter grad;        ///< what the base optimizer sees, equal on all ranks
  per_parameter params;      ///< after the step, equal on all ranks
  isize accumulated_iterations = 0;
};

/// One rank's inputs and outputs.
struct golden_rank {
  std::vector<std::vector<per_parameter>> grad_samples; ///< [step][microbatch][parameter], rows are samples
  std::vector<golden_step> steps;
};

/// A whole run. Noise multiplier 0 throughout.
struct golden_case {
  std::string name;                       ///< file name
  std::string kind;                       ///< "per_layer" or "flat"
  std::string mode;                       ///< "virtual": microbatches are parts of one logical batch; "iterations"
  std::vector<std::vector<isize>> shapes; ///< of each parameter
  int world = 1;                          ///< number of ranks
  isize microbatches = 1;                 ///< per step
  isize steps = 0;
  std::vector<isize> batch; ///< samples in each microbatch of each rank
  loss_reduction reduction = loss_reduction::mean;
  double expected_batch_size = 0;    ///< of one rank and one logical batch; 0 when the file has none
  std::vector<double> max_grad_norm; ///< one a parameter (per_layer) or a single one (flat)
  nlohmann::json optimizer;          ///< for with_optimizer()
  per_parameter initial_params;
  std::vector<golden_rank> ranks;

  /// Number of elements of parameter p.
  [[nodiscard]] isize size(std::size_t p) const {
    isize n = 1;
    for (const isize extent : shapes.at(p)) n *= extent;
    return n;
  }
};

/// Reads a case and checks that its arrays have the lengths that its configuration promises.
/// @throw std::runtime_error or nlohmann::json::exception, naming the file, on a malformed case.
inline golden_case read_golden_case(const std::string& name, const nlohmann::json& json) {
  const auto require = [&](bool holds, const char* what) {
    if (!holds) throw std::runtime_error("golden case '" + name + "': " + what);
  };
  golden_case c;
  c.name = name;
  const nlohmann::json& config = json.at("config");
  c.kind = config.at("kind").get<std::string>();
  c.mode = config.at("mode").get<std::string>();
  c.shapes = config.at("shapes").get<std::vector<std::vector<isize>>>();
  c.world = config.at("world").get<int>();
  c.microbatches = config.at("microbatches").get<isize>();
  c.steps = config.at("steps").get<isize>();
  require(c.kind == "per_layer" || c.kind == "flat", "unknown kind");
  require(c.mode == "virtual" || c.mode == "iterations", "unknown mode");
  const std::size_t world = static_cast<std::size_t>(c.world);
  const nlohmann::json& batch = config.at("batch");
  c.batch = batch.is_array() ? batch.get<std::vector<isize>>() : std::vector<isize>(world, batch.get<isize>());
  require(c.batch.size() == world, "one batch size for each rank is needed");
  const std::string reduction = config.at("loss_reduction").get<std::string>();
  require(reduction == "mean" || reduction == "sum", "unknown loss_reduction");
  c.reduction = reduction == "mean" ? loss_reduction::mean : loss_reduction::sum;
  const nlohmann::json expected = config.value("expected_batch_size", nlohmann::json());
  c.expected_batch_size = expected.is_null() ? 0 : expected.get<double>();
  const nlohmann::json& bound = json.at("max_grad_norm");
  c.max_grad_norm = bound.is_array() ? bound.get<numbers>() : numbers{bound.get<double>()};
  require(c.max_grad_norm.size() == (c.kind == "flat" ? 1 : c.shapes.size()), "wrong number of bounds");
  c.optimizer = json.at("optimizer");
  c.initial_params = json.at("initial_params").get<per_parameter>();

  const auto require_parameters = [&](const per_parameter& values, isize rows, const char* what) {
    require(values.size() == c.shapes.size(), what);
    for (std::size_t p = 0; p < values.size(); ++p) {
      require(static_cast<isize>(values[p].size()) == rows * c.size(p), what);
      for (const double v : values[p]) require(std::isfinite(v), what);
    }
  };
  require_parameters(c.initial_params, 1, "initial_params have a wrong size");
  const nlohmann::json& ranks = json.at("ranks");
  require(ranks.size() == world, "one record for each rank is needed");
  for (std::size_t r = 0; r < world; ++r) {
    golden_rank rank;
    rank.grad_samples = ranks.at(r).at("grad_samples").get<std::vector<std::vector<per_parameter>>>();
    require(static_cast<isize>(rank.grad_samples.size()) == c.steps, "grad_samples has a wrong number of steps");
    for (const auto& step : rank.grad_samples) {
      require(static_cast<isize>(step.size()) == c.microbatches, "grad_samples has a wrong number of microbatches");
      for (const auto& part : step) require_parameters(part, c.batch[r], "grad_samples have a wrong size");
    }
    for (const nlohmann::json& recorded : ranks.at(r).at("steps")) {
      golden_step step{recorded.at("summed_grad").get<per_parameter>(), recorded.at("grad").get<per_parameter>(),
                       recorded.at("params").get<per_parameter>(), recorded.at("accumulated_iterations").get<isize>()};
      require_parameters(step.grad, 1, "grad has a wrong size");
      require_parameters(step.params, 1, "params have a wrong size");
      rank.steps.push_back(std::move(step));
    }
    require(static_cast<isize>(rank.steps.size()) == c.steps, "a wrong number of steps");
    c.ranks.push_back(std::move(rank));
  }
  return c;
}

/// Every case of the folder, sorted by file name.
/// @throw std::runtime_error if the folder is missing or empty or a file is not a case.
inline std::vector<golden_case> load_golden_cases(const char* env_name, const std::string& fallback_dir) {
  std::vector<golden_case> cases;
  for (const golden_file& file : load_golden_files(env_name, fallback_dir)) {
    try {
      cases.push_back(read_golden_case(file.name, file.content));
    } catch (const nlohmann::json::exception& e) {
      throw std::runtime_error("golden case '" + file.name + "': " + e.what());
    }
  }
  return cases;
}

/// |a - b| over max(|b|, 1e-2). The floor is there because parameters are of the order of 1: one that happens to cross
/// zero carries the rounding of what cancelled, and has no relative accuracy of its own to ask for.
inline double relative_difference(double a, double b) { return std::abs(a - b) / std::max(std::abs(b), 1e-2); }

} // namespace dpopt::testing
