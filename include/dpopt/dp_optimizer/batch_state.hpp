// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The state machine of begin / gradient_ready / step, in ordinary code: compiled once, not once a composition.
#pragma once

#include "dpopt/core/error.hpp"
#include "dpopt/dp_optimizer/microbatch.hpp"
#include "dpopt/parameters/parameter_view.hpp"

#include <algorithm>
#include <cmath>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace dpopt {

/// Checks the order and the shapes of what arrives, and counts logical batches. Every violation throws; the optimizer
/// records the text and lets step() raise it on all ranks.
class batch_state {
public:
  explicit batch_state(std::vector<parameter_info> parameters)
      : parameters_(std::move(parameters)), arrived_(parameters_.size(), false) {}

  /// Opens a microbatch. The previous one must be complete.
  void begin(const microbatch& m, bool step_follows) {
    if (open_) require_complete();
    if (last_seen_)
      throw state_error("begin(): the microbatch before this one was declared the last of the step; call step() first, "
                        "or pass .last = false to all but the last");
    if (m.samples < 0) throw invalid_argument(message("begin(): samples is ", m.samples, "; give 0 or more"));
    if (!std::isfinite(m.gradient_scale))
      throw invalid_argument(message("begin(): gradient_scale is ", m.gradient_scale, "; give a finite number"));
    if (m.gradient_scale == 0 &&
        m.samples > 0) // as weight 0 for all: a step of nothing but noise, and nobody the wiser
      throw invalid_argument(
          "begin(): gradient_scale is 0, which drops every sample; give the factor between the source's "
          "numbers and per-sample gradients (see gradient_scale_of)");
    take(m.token);
    current_ = m;
    open_ = true;
    part_open_ = true;
    last_seen_ = m.last && step_follows;
    ++begun_;
    std::fill(arrived_.begin(), arrived_.end(), false);
  }

  /// Notes the gradient of parameter p with the extents its source declares.
  void arrive(isize p, isize batch, isize size) {
    note(p);
    const auto& info = parameters_[static_cast<std::size_t>(p)];
    if (batch != current_.samples)
      throw invalid_argument(message("gradient of '", info.name,
                                     "' holds another number of samples than begin() declared "
                                     "(both are private: look at them where they come from)"));
    if (size != info.size)
      throw invalid_argument(message("gradient of '", info.name, "' holds ", size,
                                     " elements a sample, but the parameter has ", info.size));
  }

  /// @throw invalid_argument naming the parameter when its source finds a fault with itself.
  void require_sound(isize p, const std::string& problem) const {
    if (problem.empty() || p < 0 || p >= static_cast<isize>(parameters_.size())) return; // arrive() refuses the latter
    throw invalid_argument(message("gradient of '", parameters_[static_cast<std::size_t>(p)].name, "': ", problem));
  }

  /// Notes that parameter p has no gradient in this microbatch (an unused branch): zero for every sample.
  void arrive_absent(isize p) { note(p); }

  /// @throw state_error naming the parameters whose gradient is missing. An empty microbatch needs none.
  void require_complete() const {
    if (!open_ || current_.samples == 0) return;
    std::string missing;
    for (std::size_t p = 0; p < arrived_.size(); ++p)
      if (!arrived_[p]) missing += message(missing.empty() ? "'" : ", '", parameters_[p].name, "'");
    if (!missing.empty())
      throw state_error(message("no gradient for ", missing,
                                " in a microbatch of this step; call gradient_ready, or "
                                "gradient_absent for an unused parameter"));
  }

  /// Ends the open microbatch once its contributions are in the sum.
  void close() noexcept {
    if (!open_) return;
    open_ = false;
    if (current_.ends_batch) end_batch();
  }

  /// @throw state_error unless begin() was called since the last step, and sampling and iterations fit together.
  void require_step() const {
    if (begun_ == 0)
      throw state_error("step() without begin(): a rank without samples declares them with begin({.samples = 0})");
    if (token_ && token_->scheme == sampling_scheme::poisson && accumulated_iterations() > 1)
      throw state_error(
          "a step over several Poisson-sampled logical batches could hold a record twice; make them parts "
          "of one logical batch (.ends_batch = false, one token)");
  }

  /// More microbatches will follow: the current one is not the last of the step after all.
  void continue_step() noexcept { last_seen_ = false; }

  /// Forgets everything of this step. A token stays used.
  void reset() noexcept {
    open_ = part_open_ = last_seen_ = false;
    begun_ = ended_ = 0;
    if (token_ && token_->scheme == sampling_scheme::poisson) used_draw_ = token_->draw; // others carry no number
    token_.reset();
    std::fill(arrived_.begin(), arrived_.end(), false);
  }

  [[nodiscard]] bool open() const noexcept { return open_; }
  [[nodiscard]] bool empty() const noexcept { return begun_ == 0; }
  [[nodiscard]] const microbatch& current() const noexcept { return current_; }
  /// Whether reductions may start while the current microbatch arrives.
  [[nodiscard]] bool last() const noexcept { return last_seen_; }
  /// Logical batches begun in this step: 0 before the first begin().
  [[nodiscard]] isize accumulated_iterations() const noexcept { return ended_ + (part_open_ ? 1 : 0); }
  /// Rate for the accountant: 1 without a token.
  [[nodiscard]] double sampling_rate() const noexcept {
    return token_ && token_->scheme == sampling_scheme::poisson ? token_->rate : 1;
  }
  /// Whether any token so far came from a sampler whose seed the user knows.
  [[nodiscard]] bool reproducible_sampling() const noexcept { return reproducible_sampling_; }
  [[nodiscard]] const std::vector<parameter_info>& parameters() const noexcept { return parameters_; }

  /// Number of the last Poisson-sampled batch that served a step.
  [[nodiscard]] const std::optional<std::uint64_t>& used_draw() const noexcept { return used_draw_; }
  /// Goes on where another run stood.
  void restore(std::optional<std::uint64_t> used_draw, bool reproducible_sampling) noexcept {
    used_draw_ = used_draw;
    reproducible_sampling_ = reproducible_sampling_ || reproducible_sampling;
  }

private:
  void note(isize p) {
    if (p < 0 || p >= static_cast<isize>(parameters_.size()))
      throw invalid_argument(
          message("gradient_ready: parameter ", p, " does not exist; there are ", parameters_.size()));
    if (!open_)
      throw state_error(
          message("gradient of '", parameters_[static_cast<std::size_t>(p)].name, "' came without begin()"));
    if (arrived_[static_cast<std::size_t>(p)])
      throw state_error(message("second gradient for '", parameters_[static_cast<std::size_t>(p)].name,
                                "' in one microbatch; add the uses of a tied parameter up in one source"));
    arrived_[static_cast<std::size_t>(p)] = true;
  }

  void take(const sampling_token& t) {
    const bool poisson = t.scheme == sampling_scheme::poisson;
    if (poisson && !(t.rate > 0 && t.rate <= 1))
      throw invalid_argument(message("begin(): the token's sampling rate is ", t.rate, "; give a rate in (0, 1]"));
    if (poisson && used_draw_ && t.draw <= *used_draw_)
      throw state_error("begin(): this sampling token served an earlier step; draw a new batch");
    if (token_ && (token_->scheme != t.scheme || token_->rate != t.rate || (poisson && token_->draw != t.draw)))
      throw state_error(
          "begin(): the sampling token differs from that of the parts before it in this step; a step takes "
          "one Poisson-sampled logical batch");
    token_ = t;
    reproducible_sampling_ = reproducible_sampling_ || t.reproducible;
  }

  void end_batch() noexcept {
    ++ended_;
    part_open_ = false;
  }

  std::vector<parameter_info> parameters_;
  std::vector<bool> arrived_;
  microbatch current_;
  std::optional<sampling_token> token_;
  std::optional<std::uint64_t> used_draw_;
  isize begun_ = 0;
  isize ended_ = 0;
  bool open_ = false;
  bool part_open_ = false;
  bool last_seen_ = false;
  bool reproducible_sampling_ = false;
};

} // namespace dpopt
