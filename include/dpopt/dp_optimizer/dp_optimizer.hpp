// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The private optimizer: per-sample gradients -> bound -> sum -> reduce over ranks -> noise once -> scale once -> base
/// optimizer -> account, each arrow a policy. step() reads as this list.
#pragma once

#include "dpopt/accounting/open_ledger.hpp"
#include "dpopt/communication/agreement.hpp"
#include "dpopt/communication/buckets.hpp"
#include "dpopt/communication/failure.hpp"
#include "dpopt/communication/shards.hpp"
#include "dpopt/communication/shared_secret.hpp"
#include "dpopt/core/error.hpp"
#include "dpopt/core/own_process.hpp"
#include "dpopt/core/schedules.hpp"
#include "dpopt/dp_optimizer/base_adaptor.hpp"
#include "dpopt/dp_optimizer/batch_state.hpp"
#include "dpopt/dp_optimizer/composition.hpp"
#include "dpopt/dp_optimizer/configuration.hpp"
#include "dpopt/dp_optimizer/contributions.hpp"
#include "dpopt/dp_optimizer/control_message.hpp"
#include "dpopt/dp_optimizer/release.hpp"
#include "dpopt/dp_optimizer/roles.hpp"
#include "dpopt/dp_optimizer/schedule.hpp"
#include "dpopt/dp_optimizer/step_noise.hpp"
#include "dpopt/dp_optimizer/trainer_code.hpp"
#include "dpopt/noise/placement.hpp"
#include "dpopt/parameters/fingerprint.hpp"
#include "dpopt/parameters/ownership.hpp"
#include "dpopt/parameters/parameter_set.hpp"

#include <algorithm>
#include <array>
#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <limits>
#include <random>
#include <span>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

namespace dpopt {

/// What is not a policy of its own.
struct dp_options {
  neighbouring relation = neighbouring::add_remove; ///< which neighbours the noise is calibrated to
  isize bucket_elements = 1 << 20; ///< numbers a reduction message holds at most; a larger parameter gets its own
};

/// Template arguments after T are policies in any order, at most one a role; what is missing is flat (whose bound must
/// be given), running_sum<T>, serial, counter_gaussian (whose multiplier must be given), replicated, expected_batch,
/// sgd, rdp_accountant, as_ready. One object, one thread at a time; all ranks call the collective members in the same
/// order. Not movable: reductions in flight and the claim on the parameters refer to it.
template <std::floating_point T, Policy... Policies>
class dp_optimizer {
  friend struct checkpoint_access; // checkpoint/checkpoint.hpp

public:
  using roles_of = composition<T, Policies...>;
  using clipper_type = typename roles_of::clipper_type;
  using accumulator_type = typename roles_of::accumulator_type;
  using communicator_type = typename roles_of::communicator_type;
  using noise_type = typename roles_of::noise_type;
  using placement_type = typename roles_of::placement_type;
  using scaling_type = typename roles_of::scaling_type;
  using base_type = typename roles_of::base_type;
  using accountant_type = typename roles_of::accountant_type;
  using schedule_type = typename roles_of::schedule_type;
  using sum_type = typename roles_of::sum_type;

  /// COLLECTIVE. Claims the parameters, checks every option, agrees with the other ranks on the configuration and
  /// shares the root's secret of the noise. Ranks that disagree, or of which one has a bad option, all throw.
  /// @param parameters views in registration order; values are replicated: alike on every rank.
  /// @throw invalid_argument, rank_error, randomness_error.
  template <ParameterList R, class... Given>
    requires(sizeof...(Given) == sizeof...(Policies))
  dp_optimizer(const R& parameters, dp_options options, Given... given)
      : dp_optimizer(parameters, options, composed{{Policies{std::move(given)}...}}) {}

  dp_optimizer(const dp_optimizer&) = delete;
  dp_optimizer& operator=(const dp_optimizer&) = delete;

  /// Leaves reductions that other ranks have not joined to themselves: their memory must outlive this object, unless
  /// the communicator can give them up.
  ~dp_optimizer() {
    if ((posted_.empty() && !broken_) || communicator_.size() == 1) return;
    if constexpr (requires(communicator_type& c) { c.abandon(); }) communicator_.abandon();
    else {                                                                          // deliberately never freed
      new contributions<clipper_type, accumulator_type>(std::move(contributions_)); // NOLINT
      new control_message(std::move(control_));                                     // NOLINT
      new std::vector<T>(std::move(own_gradients_));                                // NOLINT
      new shard_plan(std::move(shards_));                                           // NOLINT
    }
  }

  // ---- accumulate: local, except that the last microbatch of a step starts reductions ------------------------------

  /// Opens a microbatch. Errors are recorded and thrown by step() on all ranks.
  /// @throw state_error when add_noise() was called and neither step() nor scale_grad() since.
  void begin(const microbatch& m) {
    hook_.require_outside("begin()");
    if (phase_ == phase::released) finish_step();
    if (phase_ != phase::accumulating) throw state_error("begin(): the noisy sum was not released; call step() first");
    failure_.record([&] {
      require_communicator();
      close_microbatch();
      if (state_.empty()) {
        start_step(); // again, so that a schedule without a value fails every step and not only one
        fix_noise();
      }
      state_.begin(m, !skip_next_);
      contributions_.begin(m);
    });
  }

  /// Hands over the per-sample gradients of parameter p (position in the list) for the open microbatch, any order.
  /// The data may be overwritten when p's group is complete (as_ready), or after pre_step()/step() (at_step).
  template <class S>
  void gradient_ready(isize p, const S& source) {
    static_assert(
        GradientView<S> && (PerSampleGradients<S, double> || AccumulatesFrom<accumulator_type, S>),
        "dpopt: the gradient source does not satisfy PerSampleGradients (see "
        "gradients/per_sample_gradients.hpp): it must be trivially copyable, at most 192 bytes, and answer both "
        "questions.");
    static_assert(
        AccumulatesFrom<accumulator_type, S>,
        "dpopt: this accumulator needs each sample by itself (copy_sample), which this source cannot give; use "
        "running_sum.");
    failure_.record([&] {
      if constexpr (CheckedSource<S>) state_.require_sound(p, source.problem());
      state_.arrive(p, source.batch(), source.size());
      if constexpr (schedule_type::deferred) contributions_.defer(p, source);
      else contributions_.add(p, source, [this](isize q) { contributed(q); });
    });
  }

  /// Declares that parameter p took no part in the open microbatch (an unused branch): zero for every sample.
  void gradient_absent(isize p) {
    failure_.record([&] {
      state_.arrive_absent(p);
      if constexpr (!schedule_type::deferred) contributions_.add_absent(p, [this](isize q) { contributed(q); });
    });
  }

  /// Works off the open microbatch: with at_step clips and sums what was handed over, with as_ready checks that nothing
  /// is missing. step() and begin() do it themselves.
  void clip_and_accumulate() {
    failure_.record([&] { close_microbatch(); });
  }

  /// Drops everything accumulated since the last step on this rank, which then contributes nothing until the next
  /// begin(). Costs no privacy, since nothing was seen. An error that was recorded still fails the step: other ranks'
  /// samples of it are not to be used without this rank knowing. @throw state_error when reductions have started.
  void discard() {
    if (!posted_.empty() || phase_ != phase::accumulating)
      throw state_error("discard(): the last microbatch is already on its way to the other ranks; call step()");
    abandon_sums();
  }

  /// The next pre_step() or step() only accumulates (a virtual step): no noise, no communication, no update. Signal it
  /// before begin(), on every rank. Logical batches are not counted by it.
  void signal_skip_step(bool do_skip = true) {
    if (do_skip && !posted_.empty())
      throw state_error("signal_skip_step: reductions of this step have started; signal it before begin()");
    skip_next_ = do_skip;
    if (!do_skip) return;
    state_.continue_step();
    progress_.reset();
  }

  // ---- release: COLLECTIVE ----------------------------------------------------------------------------------------

  /// Completes the step: reduce, agree, account, noise, scale, update. Consumes and clears what was accumulated.
  /// @return false for a skipped (virtual) step. @throw rank_error on every rank when one failed (with one rank the
  ///   error itself): values and optimizer state stay as they were, the sums are dropped, the budget stays charged.
  ///   @throw communication_error when the communicator failed, from then on at every call. An exception of a
  ///   whole-parameter base optimizer is thrown on its rank alone and ends the step there, half updated; unless all
  ///   ranks had one, none goes on.
  bool step() {
    hook_.require_outside("step()");
    if (phase_ == phase::accumulating && !reduce()) return false;
    if (phase_ == phase::reduced && fused()) {
      or_abandon([this] { release_and_update(); });
    } else {
      if (phase_ == phase::reduced) or_abandon([this] { write_gradients(divisor_); });
      if (phase_ == phase::noised) scale_grad();
      hook_.call(*this);
      update_from_gradients();
    }
    complete_update();
    return true;
  }

  /// Runs closure (which calls begin and gradient_ready), then step(). An exception of the closure is raised on all
  /// ranks, after a skipped step by the next real one. @return what the closure returned; a value-initialised result
  /// when it threw in a skipped step.
  template <std::invocable F>
  auto step(F&& closure) {
    return run(std::forward<F>(closure), [this] { step(); });
  }

  /// Everything before the base optimizer: afterwards each parameter's gradient holds the released gradient, for a base
  /// optimizer of the trainer's own; call step() to apply the one composed here instead, or zero_grad()/begin() to go
  /// on.
  /// @return false for a skipped (virtual) step.
  bool pre_step() {
    hook_.require_outside("pre_step()");
    failure_.record([&] { make_gradients(); });
    if (phase_ == phase::accumulating && !reduce()) return false;
    if (phase_ == phase::reduced) or_abandon([this] { write_gradients(divisor_); });
    if (phase_ == phase::noised) scale_grad();
    hook_.call(*this);
    return true;
  }

  /// Runs closure, then pre_step(). @return false for a skipped (virtual) step.
  template <std::invocable F>
  bool pre_step(F&& closure) {
    bool released = false;
    run(std::forward<F>(closure), [&] { released = pre_step(); });
    return released;
  }

  /// Reduces, accounts and adds the noise, exactly once; the gradients hold the noisy sum, not yet divided.
  /// @throw state_error when this step's noise was already added.
  void add_noise() {
    if (phase_ != phase::accumulating)
      throw state_error("add_noise(): this step's noise was already added; call step()");
    failure_.record([&] { make_gradients(); });
    if (!reduce()) throw state_error("add_noise(): a skipped step has no noise; do not signal_skip_step before it");
    or_abandon([this] { write_gradients(1); });
    phase_ = phase::noised;
  }

  /// Divides the noisy sum that add_noise() left. @throw state_error out of order.
  void scale_grad() {
    if (phase_ != phase::noised)
      throw state_error("scale_grad(): there is no noisy sum to divide; call add_noise() first");
    for (isize p = 0; p < parameters_.count(); ++p)
      for (T& g : gradient(p)) g /= static_cast<T>(divisor_);
    phase_ = phase::released;
  }

  /// Called with this optimizer after each release and before the base optimizer, when gradients are safe to look at.
  /// An exception of the hook leaves the release in place: step() goes on with the update.
  void attach_step_hook(std::function<void(dp_optimizer&)> hook) {
    make_gradients();
    hook_.attach(std::move(hook));
  }

  /// Zeroes the parameters' gradients. Optional, at any time, any number of times: sums are step()'s own business. What
  /// pre_step() or add_noise() left there is dropped, and that step is over.
  void zero_grad() {
    hook_.require_outside("zero_grad()");
    if (phase_ == phase::released || phase_ == phase::noised) finish_step();
    for (const auto& p : parameters_) std::fill(p.gradient.begin(), p.gradient.end(), T(0));
  }

  /// For parameters that share a norm (flat, per_group): whether samples of convolutions and sequences that were
  /// written out for their norms are kept until their factors exist, instead of being made again. A step then takes
  /// about as long as one from materialized gradients, and as much memory for these layers, samples x parameters. The
  /// norm is that of the numbers added. Off at first; alike on all ranks; between steps.
  void keep_rows(bool keep) noexcept { contributions_.keep_rows(keep); }

  /// From now on scratch memory is the user's, which outlives this optimizer and serves nothing else meanwhile. At any
  /// time, on any rank. Empty: from the heap again. Nothing comes from the heap while workspace_bytes() is at most what
  /// was given. Before the first step nobody knows the need: what does not fit then comes from the heap, since a step
  /// that failed for it would cost privacy, and workspace_bytes() tells.
  /// @throw invalid_argument when it is less than workspace_bytes() so far, with nothing changed.
  void use_workspace(std::span<std::byte> memory) {
    if (!memory.empty() && std::ssize(memory) < workspace_bytes())
      throw invalid_argument(message("use_workspace: ", memory.size(), " bytes were given, the steps so far needed ",
                                     workspace_bytes(), "; give that many"));
    contributions_.scratch().use(memory);
  }

  // ---- look: local, public unless the name says private -----------------------------------------------------------

  /// Logical batches in the current step, or in the last one until begin(); 0 before the first.
  [[nodiscard]] isize accumulated_iterations() const noexcept {
    return state_.empty() ? last_iterations_ : state_.accumulated_iterations();
  }
  /// Whether the last pre_step() or step() was a virtual one.
  [[nodiscard]] bool last_step_skipped() const noexcept { return last_skipped_; }
  /// Steps applied by the base optimizer.
  [[nodiscard]] std::uint64_t updates() const noexcept { return updates_; }
  /// Steps whose gradient was released, to the base optimizer or to the trainer: the t of schedules.
  [[nodiscard]] std::uint64_t releases() const noexcept { return releases_; }
  /// Bound on what one unit of privacy moves the sum, for the relation in the options.
  [[nodiscard]] double sensitivity() const { return contributions_.clipper().sensitivity(options_.relation); }
  /// Standard deviation of the noise on each number of the last released gradient.
  [[nodiscard]] double noise_std() const noexcept {
    if constexpr (CorrelatedNoise<noise_type>) return noise_std_ / divisor_ * noise_.row_norm();
    else return noise_std_ / divisor_;
  }
  /// Upper bound on epsilon so far at the given delta.
  [[nodiscard]] double epsilon(double delta) const { return accountant_.epsilon(delta); }
  /// True when noise or sampling comes from a seed that the user knows: then no epsilon protects anyone from the user.
  [[nodiscard]] bool reproducible() const { return detail::is_reproducible(noise_) || state_.reproducible_sampling(); }
  /// The sentence to print: epsilon, delta, and a flag when the run is reproducible.
  [[nodiscard]] std::string privacy_statement(double delta) const {
    return detail::privacy_text(epsilon(delta), delta, reproducible());
  }
  /// The effective configuration, without secrets.
  [[nodiscard]] std::string describe() const { return detail::lines_of(configuration()); }
  /// The released gradient of parameter p after pre_step() or inside the step hook.
  /// @throw invalid_argument for an unknown p.
  [[nodiscard]] std::span<const T> released_gradient(isize p) {
    if (p < 0 || p >= parameters_.count())
      throw invalid_argument(
          message("released_gradient: parameter ", p, " does not exist; there are ", parameters_.count()));
    make_gradients();
    return gradient(p);
  }
  /// State array `slot` of the elementwise base optimizer for parameter p, such as exponential_average's average;
  /// changes with each step. Computed from released gradients alone, so public. @throw invalid_argument for an unknown
  /// p or slot.
  [[nodiscard]] std::span<const T> optimizer_slot(isize p, std::size_t slot) const {
    if constexpr (slots > 0)
      if (p >= 0 && p < parameters_.count() && slot < slots) {
        if (keeps_slot(slot))
          return std::span(optimizer_state_[slot])
              .subspan(static_cast<std::size_t>(plan().offset(p)), parameters_[p].value.size());
        throw invalid_argument(
            message("optimizer_slot: slot ", slot, " is not kept; ", detail::policy_text(base_), " has no use for it"));
      }
    throw invalid_argument(message("optimizer_slot: parameter ", p, ", slot ", slot, " does not exist; there are ",
                                   parameters_.count(), " parameters with ", slots, " slots each"));
  }
  /// Bytes of scratch memory that the steps so far needed, on this rank. They follow from layers and types, not from
  /// batch sizes, which cost 16 bytes a sample beside it, and 8 more for each group of several parameters.
  [[nodiscard]] isize workspace_bytes() const noexcept { return contributions_.scratch().bytes(); }
  /// PRIVATE: counts of samples on this rank in the last step. Not covered by any epsilon.
  [[nodiscard]] const private_counts& private_sample_counts() const noexcept { return last_counts_; }

  [[nodiscard]] base_type& base_optimizer() noexcept { return base_; }
  [[nodiscard]] noise_type& noise() noexcept { return noise_; }
  [[nodiscard]] const clipper_type& clipper() const noexcept { return contributions_.clipper(); }
  [[nodiscard]] const accountant_type& accountant() const noexcept { return accountant_; }
  [[nodiscard]] communicator_type& communicator() noexcept { return communicator_; }

private:
  enum class phase {
    accumulating, ///< begin and gradient_ready
    reduced,      ///< the sum over ranks is here and accounted for
    noised,       ///< gradients hold the noisy sum
    released,     ///< gradients hold the released gradient
  };
  static constexpr bool elementwise = ElementwiseOptimizer<base_type, T>;
  static constexpr bool scatters = ScatteringPlacement<placement_type>; // sums and released numbers travel in parts
  static constexpr std::size_t slots = [] {
    if constexpr (elementwise) return base_type::slots;
    else return std::size_t{0};
  }();

  struct composed {
    std::tuple<Policies...> policies;
  };

  template <ParameterList R>
  dp_optimizer(const R& parameters, dp_options options, composed given)
      : parameters_(parameters), state_(parameters_.infos()), options_(options),
        contributions_(take_policy<clipper_type>(given.policies), take_policy<accumulator_type>(given.policies)),
        communicator_(take_policy<communicator_type>(given.policies)), noise_(take_policy<noise_type>(given.policies)),
        placement_(take_policy<placement_type>(given.policies)), scaling_(take_policy<scaling_type>(given.policies)),
        base_(take_policy<base_type>(given.policies)), accountant_(take_policy<accountant_type>(given.policies)) {
    std::vector<fingerprint_field> fields;
    failure_.record([&] {
      prepare();
      fields = fingerprints(); // policies put themselves in words, and may fail at it
    });
    failure_.raise_together(communicator_);
    require_equal(communicator_, fields);
    if constexpr (SharesSecret<noise_type>) share_secret(communicator_, noise_);
    if constexpr (KeepsLedger<accountant_type>) open_ledger(communicator_, accountant_);
  }

  void prepare() {
    parameters_.validate();
    noise_.validate();
    scaling_.validate();
    if constexpr (requires { base_.validate(); }) base_.validate();
    if constexpr (requires { accountant_.validate(); }) accountant_.validate();
    if (options_.bucket_elements < 1)
      throw invalid_argument(message("bucket_elements: ", options_.bucket_elements, " is below 1; give 1 or more"));
    for (const auto& p : parameters_) {
      claim_.claim(p.name, p.value.data(), p.value.size_bytes());
      claim_.claim(message(p.name, ".gradient"), p.gradient.data(), p.gradient.size_bytes());
    }
    std::vector<isize> sizes;
    for (const auto& p : parameters_) sizes.push_back(p.size());
    progress_ = bucket_progress(bucket_plan(sizes, options_.bucket_elements));
    std::vector<isize> offsets;
    for (isize p = 0; p < parameters_.count(); ++p) offsets.push_back(plan().offset(p));
    contributions_.bind(state_.parameters(), std::move(offsets));
    if constexpr (CorrelatedNoise<noise_type>) noise_.bind(sizes, std::ssize(contributions_.side()));
    start_step();
    detail::require_gradient_multiplier(noise_, contributions_.clipper()); // refuse early
    control_ = control_message(std::ssize(contributions_.side()));
    make_slots();
    posted_.reserve(static_cast<std::size_t>(plan().buckets().size()));
    fix_noise();
    if constexpr (scatters) shards_ = shard_plan(plan(), communicator_.rank(), communicator_.size());
    if constexpr (!elementwise || scatters) make_gradients();
  }

  /// The configuration as (name, value) texts: what describe() shows and what ranks compare. Names live for ever.
  [[nodiscard]] detail::configuration_texts configuration() const {
    return {{"parameters", detail::shapes_text(parameters_)},
            {"master type", sizeof(T) == sizeof(float) ? "float" : "double"},
            {"clipper", contributions_.clipper().describe()},
            {"accumulator", contributions_.sum().describe()},
            {"noise", detail::noise_text(noise_)},
            {"placement", detail::policy_text(placement_)},
            {"scaling", scaling_.describe()},
            {"base optimizer", detail::policy_text(base_)},
            {"accountant", detail::policy_text(accountant_)},
            {"schedule", schedule_type::deferred ? "at_step" : "as_ready"},
            {"neighbouring", std::string(name_of(options_.relation))},
            {"bucket_elements", message(options_.bucket_elements)}};
  }

  [[nodiscard]] std::vector<fingerprint_field> fingerprints() {
    std::vector<fingerprint_field> out = detail::fields_of(configuration(), noise_);
    fingerprint lengths; // what follows from the configuration, unless a policy of the user's says less than it does
    lengths.add(control_.size());
    for (const bucket& b : plan().buckets()) lengths.add(b.size);
    out.push_back({"lengths of messages", lengths.value()});
    fingerprint values; // replicated training starts from the same numbers everywhere
    if (communicator_.size() > 1)
      for (const auto& p : parameters_)
        for (const T x : p.value) values.add(static_cast<double>(x));
    out.push_back({"parameter values", values.value()});
    return out;
  }

  void close_microbatch() {
    if (!state_.open()) return;
    state_.require_complete();
    if constexpr (schedule_type::deferred) contributions_.flush([this](isize p) { contributed(p); });
    state_.close();
  }

  /// All of p's samples of the current microbatch are in the sum: when it is the last, its bucket may go.
  void contributed(isize p) {
    if (!state_.last() || skip_next_) return;
    progress_.contributed(p);
    while (const auto k = progress_.next_ready()) post(*k);
  }

  /// Starts the reduction of bucket k, with this rank's share of noise if the placement is before the reduction.
  void post(isize k) {
    const auto& bucket = plan().buckets()[static_cast<std::size_t>(k)];
    contributions_.seal(bucket.first, bucket.size);
    if constexpr (placement_type::before_reduction) {
      const share mine = placement_.before(communicator_.rank(), communicator_.size());
      const double std_in_units = noise_std_ * mine.std_factor / contributions_.sum().unit();
      if (std_in_units > 0)
        failure_.record([&] {
          for (isize p = bucket.lowest_parameter; p < bucket.lowest_parameter + bucket.members; ++p)
            noise_.add(where(p, 0, mine.lane), std_in_units, sum_of(p), parameters_[p].size());
        });
      // Without this rank's noise the others would see their exact sum: let them see nothing.
      if (failure_) spoil(std::span(contributions_.sum().data() + bucket.first, static_cast<std::size_t>(bucket.size)));
    }
    or_break([&] {
      sum_type* const sums = contributions_.sum().data() + bucket.first;
      if constexpr (scatters) posted_.push_back(communicator_.start_reduce_scatter(sums, shards_.counts(k)));
      else posted_.push_back(communicator_.start_sum(sums, bucket.size));
    });
  }

  /// COLLECTIVE unless skipped: completes the sum over ranks, charges the accountant, agrees on status.
  bool reduce() {
    if (broken_) failure_.raise(); // what broke it, once
    require_communicator();
    failure_.record([&] { close_microbatch(); });
    if (broken_) failure_.raise();
    last_skipped_ = std::exchange(skip_next_, false);
    if (last_skipped_) return false;
    failure_.record([&] { state_.require_step(); });
    failure_.record([&] { require_own_process(); });
    failure_.record([&] { require_same_noise(); });
    while (const auto k = progress_.rest()) post(*k);
    last_iterations_ = state_.accumulated_iterations();
    divisor_ = scaling_.divisor(std::max<isize>(1, last_iterations_), communicator_.size());
    failure_.record([&] { make_slots(); });
    failure_.record([&] { probe_noise(); });
    bool charged = false;
    failure_.record([&] {
      charge(state_.sampling_rate());
      charged = true;
    });
    exchange_status(charged);
    noise_step_ = steps_++; // the numbers of this step are never drawn again, whatever happens now
    ++releases_;
    phase_ = phase::reduced;
    or_abandon([this] {
      if constexpr (CorrelatedNoise<noise_type>) noise_.start_row(noise_step_);
      learn();
    });
    return true;
  }

  /// A share of the noise on the clipper's side scalars, which are released with the gradients.
  void add_side_noise(const share& mine) {
    if constexpr (LearningClipper<clipper_type>) {
      const double std = contributions_.clipper().side_std(options_.relation) * mine.std_factor;
      if (std > 0)
        noise_.add({purpose::side_scalars, mine.lane, noise_step_or_next(), 0, 0}, std, control_.side().data(),
                   std::ssize(control_.side()));
    }
  }

  /// Lets the clipper learn from its noisy scalars; this step's noise was fixed with the bounds before.
  void learn() {
    if constexpr (LearningClipper<clipper_type>) {
      add_side_noise(placement_.after(communicator_.rank(), communicator_.size()));
      contributions_.clipper().learn(control_.side(), std::max<isize>(1, last_iterations_), communicator_.size());
    }
  }

  /// Tells policies with a schedule how many steps were released.
  void start_step() { detail::start_schedules(noise_, contributions_.clipper(), releases_); }

  /// What the gradients get of the noise multiplier that the accountant is told.
  [[nodiscard]] double gradient_multiplier() const {
    return detail::gradient_multiplier(noise_, contributions_.clipper());
  }

  /// Fixes the noise of the step that begins now, before a bucket can leave with it.
  /// @throw invalid_argument when the clipper's bounds and the multiplier give no usable standard deviation.
  void fix_noise() {
    require_own_process();
    multiplier_ = noise_.multiplier();
    const double bound = sensitivity();
    noise_std_ = gradient_multiplier() * bound;
    detail::require_usable_noise<sum_type>(noise_, multiplier_, bound, noise_std_, contributions_.sum().unit());
  }

  /// @throw state_error in a forked child, which would repeat its parent's noise. With a user's seed nothing is private
  /// anyway.
  void require_own_process() const {
    if (!detail::is_reproducible(noise_)) process_.require("the optimizer");
  }

  /// @throw state_error when somebody changed the noise while samples were accumulating.
  void require_same_noise() const {
    if (state_.empty() || (noise_.multiplier() == multiplier_ && gradient_multiplier() * sensitivity() == noise_std_))
      return;
    throw state_error("the noise multiplier changed between begin() and step(); change it between steps");
  }

  /// Tells the accountant, before anything is released. Correlated noise is one mechanism over the whole run: it is
  /// told once, at the first step, and refuses batches that were sampled, since their amplification is unproven here.
  void charge(double rate) {
    if constexpr (CorrelatedNoise<noise_type>) {
      if (rate != 1)
        throw state_error(
            message("correlated noise claims no amplification by sampling, but this step's token has rate ", rate,
                    "; choose batches as the run_plan says and pass no token"));
      if (run_charged_) return;
      accountant_.record({noise_.run_multiplier(), 1, 1, options_.relation});
      run_charged_ = true;
    } else {
      accountant_.record({multiplier_, rate, 1, options_.relation, noise_kind_of<noise_type>});
    }
  }

  /// Overwrites numbers so that nothing can be learned from their sum over ranks.
  template <class V>
  static void spoil(std::span<V> numbers) {
    if constexpr (std::floating_point<V>) {
      std::ranges::fill(numbers, std::numeric_limits<V>::quiet_NaN());
    } else { // a random word hides whatever is added to it
      std::random_device random;
      for (V& x : numbers) x = static_cast<V>((static_cast<std::uint64_t>(random()) << 32) | random());
    }
  }

  /// After a communicator failed, ranks no longer agree on what was sent: nothing can go on.
  template <class F>
  void or_break(F&& f) {
    try {
      f();
    } catch (...) {
      broken_ = true;
      throw;
    }
  }
  void require_communicator() const {
    if (broken_) throw communication_error("the communicator failed in an earlier step; make a new optimizer");
  }

  /// Draws the last number that this step will need and throws it away, so that an exhausted stream is an error of all
  /// ranks before the first parameter is written.
  void probe_noise() {
    if constexpr (CorrelatedNoise<noise_type>) {
      noise_.require_row(steps_);
    } else if constexpr (AddressableNoise<noise_type>) {
      if (multiplier_ > 0) detail::probe_stream<sum_type>(noise_, parameters_, steps_);
    }
  }

  /// COLLECTIVE. Every rank returns, or every rank throws with the sums dropped.
  void exchange_status(bool charged) {
    std::string base; // learning rates may change
    std::ranges::copy(contributions_.side(), control_.side().begin());
    failure_.record([&] {
      if (communicator_.size() > 1) base = detail::policy_text(base_);
      add_side_noise(placement_.before(communicator_.rank(), communicator_.size()));
    });
    const step_declaration mine{.step = steps_,
                                .iterations = last_iterations_,
                                .sampling_rate = state_.sampling_rate(),
                                .noise_multiplier = multiplier_,
                                .noise_std = noise_std_,
                                .base = base,
                                .updates = updates_ - half_updates_};
    if (failure_ && placement_type::before_reduction) spoil(control_.side());
    const bool failed = static_cast<bool>(failure_);
    control_.declare(failed, failed ? 0.0 : mine.digest(), state_.empty() ? 0.0 : state_.sampling_rate());
    or_break([&] {
      auto request = communicator_.start_sum(control_.data(), control_.size());
      communicator_.wait(request);
      for (auto& r : posted_) communicator_.wait(r);
    });
    posted_.clear();
    const bool alike = control_.all_alike(communicator_.size());
    if (!control_.any_failed() && alike) return;
    if (!charged && control_.agreed_rate() > 0) { // somewhere noise may be out: all ranks pay
      failure second;                             // of which nobody hears: the step's own comes first
      second.record([&] { charge(control_.agreed_rate()); });
    }
    if (!control_.any_failed()) failure_.record([&] { throw state_error(mine.difference()); });
    ++steps_; // noise placed before the reduction has been seen by other ranks
    abandon_sums();
    failure_.raise_together(communicator_);
  }

  [[nodiscard]] const bucket_plan& plan() const noexcept { return progress_.plan(); }

  /// Whether noise, scaling and update can share one pass.
  [[nodiscard]] bool fused() const noexcept { return elementwise && !scatters && !hook_; }

  [[nodiscard]] sum_type* sum_of(isize p) { return contributions_.sum().data() + plan().offset(p); }

  [[nodiscard]] address where(isize p, isize element, std::uint32_t lane) const noexcept {
    return {purpose::gradient, lane, noise_step_or_next(), static_cast<std::uint32_t>(p),
            static_cast<std::uint64_t>(element)};
  }
  /// Noise before the reduction is drawn while the step's number is still to be taken.
  [[nodiscard]] std::uint64_t noise_step_or_next() const noexcept {
    return phase_ == phase::accumulating ? steps_ : noise_step_;
  }

  template <class F>
  void for_each_tile(isize p, F&& f) {
    for_each_release_tile<noise_type, sum_type>(parameters_[p].size(), f);
  }

  void release(isize p, isize first, isize count, double divisor, T* out) {
    const share mine = placement_.after(communicator_.rank(), communicator_.size());
    const release_constants k{contributions_.sum().unit(), noise_std_ * mine.std_factor, divisor};
    release_tile(sum_of(p) + first, count, where(p, first, mine.lane), k, noise_, out);
  }

  /// The base optimizer's constants of this step; it may ask to be told the noise.
  [[nodiscard]] auto step_constants() const {
    if constexpr (NoiseAwareOptimizer<base_type, T>) return base_.at(updates_, noise_std());
    else return base_.at(updates_);
  }

  /// ONE pass over the parameters: noise, scale and update on a tile that stays in L1.
  void release_and_update() {
    if constexpr (elementwise) {
      make_slots();
      const auto constants = step_constants();
      for (isize p = 0; p < parameters_.count(); ++p)
        for_each_tile(p, [&](isize first, isize count) {
          alignas(64) std::array<T, release_tile_elements> tile;
          const auto& entry = parameters_[p];
          T* const g = entry.gradient.empty() ? tile.data() : entry.gradient.data() + first;
          release(p, first, count, divisor_, g);
          constants.update(entry.value.data() + first, g, state_tile(p, first), count);
        });
    }
  }

  void write_gradients(double divisor) {
    if constexpr (scatters) return gather_gradients(divisor);
    for (isize p = 0; p < parameters_.count(); ++p) {
      T* const g = gradient(p).data();
      for_each_tile(p, [&](isize first, isize count) { release(p, first, count, divisor, g + first); });
    }
    phase_ = phase::released;
  }

  /// COLLECTIVE. Each rank releases what it owns of every bucket and sends it to the others. A rank whose noise fails
  /// sends NaN, and all ranks throw.
  void gather_gradients(double divisor) {
    for (isize k = 0; k < std::ssize(plan().buckets()); ++k) {
      failure_.record([&] {
        for_each_owned(plan(), shards_, k, [&](isize p, isize first, isize count) {
          T* const out = own_gradients_.data() + plan().offset(p);
          for (isize at = first; at < first + count; at += release_tile_elements)
            release(p, at, std::min(release_tile_elements, first + count - at), divisor, out + at);
        });
      });
      const auto [first, size] = shards_.own(k);
      if (failure_) spoil(std::span(own_gradients_.data() + first, static_cast<std::size_t>(size)));
      or_break([&] {
        T* const whole = own_gradients_.data() + plan().buckets()[static_cast<std::size_t>(k)].first;
        posted_.push_back(communicator_.start_all_gather(whole, shards_.counts(k)));
      });
    }
    or_break([&] {
      for (auto& r : posted_) communicator_.wait(r);
    });
    posted_.clear();
    failure_.raise_together(communicator_);
    contributions_.clear_sum(); // the parts of other ranks, too
    for (isize p = 0; p < parameters_.count(); ++p)
      if (T* const to = gradient(p).data(); to != own_gradients_.data() + plan().offset(p))
        std::copy_n(own_gradients_.data() + plan().offset(p), parameters_[p].size(), to);
    phase_ = phase::released;
  }

  void update_from_gradients() {
    if constexpr (elementwise) {
      make_slots(); // the hook may have changed options
      const auto constants = step_constants();
      for (isize p = 0; p < parameters_.count(); ++p)
        constants.update(parameters_[p].value.data(), gradient(p).data(), state_tile(p, 0), parameters_[p].size());
    } else {
      try {
        for (isize p = 0; p < parameters_.count(); ++p)
          base_(parameter_update<T>{updates_, p, parameters_[p].name, parameters_[p].value, gradient(p)});
      } catch (...) { // a second attempt would update the first parameters twice
        ++half_updates_;
        complete_update();
        throw;
      }
    }
  }

  void complete_update() {
    ++updates_;
    finish_step();
  }

  /// Room for the released gradients that the user gave none for. Before ranks agree on a step, so that a lack of
  /// memory is an error of all of them.
  void make_gradients() {
    for (const auto& p : parameters_)
      if (scatters || p.gradient.empty()) return own_gradients_.resize(static_cast<std::size_t>(plan().total()));
  }

  /// Where p's released gradient is: the user's array, or ours.
  [[nodiscard]] std::span<T> gradient(isize p) {
    const auto& entry = parameters_[p];
    if (!entry.gradient.empty() || entry.value.empty()) return entry.gradient;
    return {own_gradients_.data() + plan().offset(p), entry.value.size()};
  }

  [[nodiscard]] std::array<T*, slots> state_tile(isize p, isize first) {
    std::array<T*, slots> out{};
    for (std::size_t s = 0; s < slots; ++s)
      if (keeps_slot(s)) out[s] = optimizer_state_[s].data() + plan().offset(p) + first;
    return out;
  }

  /// Zeros for the slots that the base optimizer uses with its options of now. Before ranks agree on a step, as
  /// make_gradients().
  void make_slots() {
    for (std::size_t s = 0; s < slots; ++s)
      if (slot_in_use(base_, s) && !keeps_slot(s)) make_slot(s);
  }
  void make_slot(std::size_t s) { optimizer_state_[s].assign(static_cast<std::size_t>(plan().total()), T(0)); }
  [[nodiscard]] bool keeps_slot(std::size_t s) const noexcept {
    return std::ssize(optimizer_state_[s]) == plan().total();
  }

  void finish_step() {
    phase_ = phase::accumulating;
    hook_.next_step();
    state_.reset();
    progress_.reset();
    last_counts_ = contributions_.counts();
    contributions_.forget();
    failure_.record([this] { start_step(); });
  }

  void abandon_sums() {
    contributions_.clear_sum();
    finish_step();
  }

  /// A step that fails after the reduction is over: what was not released is dropped, so that no second attempt can
  /// draw the same noise again.
  template <class F>
  void or_abandon(F&& f) {
    try {
      f();
    } catch (...) {
      abandon_sums();
      throw;
    }
  }

  /// Runs the trainer's closure under record(), then the collective part, then hands over the closure's result.
  template <class F, class Collective>
  auto run(F&& closure, Collective&& collective) {
    if (phase_ == phase::released) finish_step(); // a closure begins a step of its own
    if (phase_ != phase::accumulating)
      throw state_error("closure: the noisy sum of add_noise() was not released; call step() without one first");
    return run_closure(failure_, std::forward<F>(closure), std::forward<Collective>(collective));
  }

  parameter_set<T> parameters_;
  ownership claim_;
  own_process process_;
  batch_state state_;
  dp_options options_;
  contributions<clipper_type, accumulator_type> contributions_;
  communicator_type communicator_;
  noise_type noise_;
  [[no_unique_address]] placement_type placement_;
  scaling_type scaling_;
  base_type base_;
  accountant_type accountant_;
  bucket_progress progress_;
  control_message control_;
  std::vector<typename communicator_type::request> posted_;
  std::array<std::vector<T>, slots> optimizer_state_;
  std::vector<T> own_gradients_;
  shard_plan shards_; // only when the placement scatters
  step_hook<dp_optimizer> hook_;
  failure failure_;
  phase phase_ = phase::accumulating;
  std::uint64_t steps_ = 0;        // numbers of noise used up; also by failed steps
  std::uint64_t noise_step_ = 0;   // number of the step being released
  std::uint64_t updates_ = 0;      // released and applied
  std::uint64_t half_updates_ = 0; // of these, ended by an exception of the base optimizer
  std::uint64_t releases_ = 0;     // released
  isize last_iterations_ = 0;
  private_counts last_counts_;
  double divisor_ = 1;
  double multiplier_ = 0; // of the step that is accumulating or was released last
  double noise_std_ = 0;  // and its standard deviation on the sum
  bool broken_ = false;
  bool run_charged_ = false; // the accountant was told of the whole run
  bool skip_next_ = false;
  bool last_skipped_ = false;
};

/// Order-free: dp_optimizer opt(parameters, dp_options{}, flat{1.0}, counter_gaussian{1.1}, adam{}).
template <ParameterList R, class... P>
dp_optimizer(const R&, dp_options, P...)
    -> dp_optimizer<typename std::ranges::range_value_t<R>::value_type,
                    policy_of<typename std::ranges::range_value_t<R>::value_type, P>...>;

} // namespace dpopt
