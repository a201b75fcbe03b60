// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
#include "report.hpp"

#include <dpopt/core/error.hpp>

#include <nlohmann/json.hpp>

#include <cmath>
#include <cstdio>
#include <filesystem>
#include <utility>

namespace digits {
namespace {

using nlohmann::ordered_json;

constexpr auto not_a_release = "reproducible run: not a private release";

std::string text(const char* format, double x) {
  char out[64];
  std::snprintf(out, sizeof out, format, x);
  return out;
}

/// JSON has no infinity: no privacy is null.
ordered_json finite_or_null(double x) { return std::isfinite(x) ? ordered_json(x) : ordered_json(nullptr); }

/// @param flag follows in brackets when the run is reproducible.
std::string epsilon_text(double epsilon, bool reproducible, const std::string& flag = not_a_release) {
  if (!std::isfinite(epsilon)) return "none (no privacy)";
  return text("%.3f", epsilon) + (reproducible ? " (" + flag + ")" : "");
}

std::ofstream opened(const std::string& file) {
  std::ofstream out;
  if (file.empty()) return out;
  out.open(file);
  if (!out)
    throw dpopt::invalid_argument(dpopt::message(file, ": cannot be written; choose another by --output or --json"));
  return out;
}

std::string log_file(const std::string& folder) {
  if (folder.empty()) return "";
  std::error_code problem;
  std::filesystem::create_directories(folder, problem);
  if (problem)
    throw dpopt::invalid_argument(dpopt::message(folder, ": ", problem.message(), "; choose another by --output"));
  return folder + "/log.jsonl";
}

/// What a reader needs to judge the run. Never the seed.
ordered_json settings(const options& o, const run_facts& f) {
  return {{"target_epsilon", o.no_privacy ? ordered_json(nullptr) : ordered_json(o.target_epsilon)},
          {"delta", o.delta},
          {"noise_multiplier", f.noise_multiplier},
          {"bounds", o.no_privacy ? ordered_json(nullptr) : ordered_json(o.bounds)},
          {"rate", o.rate},
          {"epochs", o.epochs},
          {"steps", o.steps()},
          {"learning_rate", o.learning_rate},
          {"hidden", o.hidden},
          {"init_seed", o.init_seed},
          {"materialized", o.materialized},
          {"noise", o.noise},
          {"secure_mode", o.secure_mode()},
          {"train_images", f.train_images},
          {"held_out_images", f.held_out_images},
          {"parameters", f.parameters},
          {"ranks", f.ranks},
          {"reproducible", f.reproducible}};
}

} // namespace

report::report(const options& chosen, const run_facts& facts)
    : options_(chosen), facts_(facts), log_(opened(log_file(chosen.output))), json_(opened(chosen.json)),
      progress_(chosen.quiet ? "none" : chosen.progress, chosen.epochs, chosen.steps()) {
  if (log_.is_open()) log_ << ordered_json{{"settings", settings(options_, facts_)}}.dump() << std::endl;
}

void report::epoch(const epoch_result& r) {
  history_.push_back({r.epoch, r.accuracy, r.epsilon});
  std::string note = "accuracy " + text("%.1f %%", 100 * r.accuracy);
  if (std::isfinite(r.epsilon))
    note +=
        "  epsilon " + epsilon_text(r.epsilon, facts_.reproducible, progress_.is_bar() ? "not private" : not_a_release);
  if (r.private_) {
    note += "  private_loss " + text("%.3f", r.private_->loss) + "  private_clip_fraction " +
            text("%.2f", r.private_->clip_fraction);
  }
  progress_.epoch(r.epoch, r.epoch * options_.steps_per_epoch(), note);
  if (!log_.is_open()) return;
  const std::chrono::duration<double> passed = std::chrono::steady_clock::now() - start_;
  ordered_json line{{"epoch", r.epoch},
                    {"accuracy", r.accuracy},
                    {"epsilon", finite_or_null(r.epsilon)},
                    {"seconds", passed.count()},
                    {"reproducible", facts_.reproducible}};
  if (r.private_) {
    line["private_loss"] = r.private_->loss;
    line["private_clip_fraction"] = r.private_->clip_fraction;
    line["private_batch"] = r.private_->batch;
  }
  log_ << line.dump() << std::endl;
}

std::string report::title() const {
  std::string out = "digits, " + std::to_string(facts_.ranks) + (facts_.ranks == 1 ? " rank" : " ranks");
  out += options_.no_privacy ? ", no privacy" : ", delta " + text("%g", options_.delta);
  if (facts_.reproducible && !options_.no_privacy) out += std::string(" (") + not_a_release + ")";
  return out;
}

void report::finish() {
  progress_.close();
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start_;
  const ordered_json last{{"accuracy", history_.back().accuracy},
                          {"epsilon", finite_or_null(history_.back().epsilon)},
                          {"delta", options_.delta},
                          {"seconds", seconds.count()},
                          {"ranks", facts_.ranks},
                          {"reproducible", facts_.reproducible}};
  if (log_.is_open()) log_ << last.dump() << std::endl;
  if (json_.is_open()) json_ << last.dump() << std::endl;

  std::string plot_problem;
  if (!options_.output.empty()) plot_problem = write_plots(history_, title(), options_.output);
  if (options_.quiet) {
    if (!plot_problem.empty()) std::fprintf(stderr, "%s\n", plot_problem.c_str());
    std::printf("%s\n", last.dump().c_str());
  } else print_table(seconds.count(), plot_problem);
  std::fflush(stdout);
}

void report::print_table(double seconds, const std::string& plot_problem) const {
  const double accuracy = history_.back().accuracy;
  std::string bounds;
  for (const double b : options_.bounds) bounds += (bounds.empty() ? "" : ", ") + text("%g", b);

  std::vector<std::pair<std::string, std::string>> rows{
      {"accuracy", text("%.2f %%", 100 * accuracy) +
                       text(" (%.0f of ", accuracy * static_cast<double>(facts_.held_out_images)) +
                       std::to_string(facts_.held_out_images) + " held-out images)"},
      {"epsilon", epsilon_text(history_.back().epsilon, facts_.reproducible)}};
  if (!options_.no_privacy) {
    rows.emplace_back("delta", text("%g", options_.delta));
    rows.emplace_back("noise multiplier", text("%.4f", facts_.noise_multiplier));
    rows.emplace_back("noise", options_.noise);
    rows.emplace_back("bound of each layer", bounds);
  }
  rows.emplace_back("steps", std::to_string(options_.steps()) + " (" + std::to_string(options_.epochs) +
                                 " epochs), rate " + text("%g", options_.rate) + " of " +
                                 std::to_string(facts_.train_images) + " images");
  rows.emplace_back("parameters", std::to_string(facts_.parameters));
  rows.emplace_back("gradients", options_.materialized ? "written out for each image" : "factored");
  rows.emplace_back("ranks", std::to_string(facts_.ranks));
  rows.emplace_back("seconds", text("%.2f", seconds));
  if (!options_.output.empty()) {
    rows.emplace_back("log", options_.output + "/log.jsonl");
    rows.emplace_back("plot", plot_problem.empty() ? options_.output + "/plot.png, plot.svg" : plot_problem);
  }
  std::printf("\n");
  for (const auto& [name, value] : rows) std::printf("  %-20s %s\n", name.c_str(), value.c_str());
}

} // namespace digits
