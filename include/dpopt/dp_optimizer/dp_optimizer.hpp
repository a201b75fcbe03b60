// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The private optimizer: per-sample gradients -> bound -> sum -> reduce over ranks -> noise once -> scale once -> base
/// optimizer -> account, each arrow a policy. step() reads as this list.
///
/// What each arrow does stands in headers of its own: contributions.hpp (bound, sum), reduction.hpp and
/// control_message.hpp (reduce, agree), step_budget.hpp (how much noise, account), step_release.hpp (noise, scale,
/// update), update_memory.hpp (where gradients and state lie). Here is who calls what when, and what users call.
#pragma once

#include "dpopt/accounting/open_ledger.hpp"
#include "dpopt/communication/agreement.hpp"
#include "dpopt/communication/buckets.hpp"
#include "dpopt/communication/failure.hpp"
#include "dpopt/communication/shared_secret.hpp"
#include "dpopt/core/error.hpp"
#include "dpopt/core/own_process.hpp"
#include "dpopt/dp_optimizer/base_adaptor.hpp"
#include "dpopt/dp_optimizer/batch_state.hpp"
#include "dpopt/dp_optimizer/composition.hpp"
#include "dpopt/dp_optimizer/configuration.hpp"
#include "dpopt/dp_optimizer/contributions.hpp"
#include "dpopt/dp_optimizer/control_message.hpp"
#include "dpopt/dp_optimizer/reduction.hpp"
#include "dpopt/dp_optimizer/roles.hpp"
#include "dpopt/dp_optimizer/schedule.hpp"
#include "dpopt/dp_optimizer/spoil.hpp"
#include "dpopt/dp_optimizer/step_budget.hpp"
#include "dpopt/dp_optimizer/step_noise.hpp"
#include "dpopt/dp_optimizer/step_release.hpp"
#include "dpopt/dp_optimizer/trainer_code.hpp"
#include "dpopt/dp_optimizer/update_memory.hpp"
#include "dpopt/noise/placement.hpp"
#include "dpopt/parameters/fingerprint.hpp"
#include "dpopt/parameters/ownership.hpp"
#include "dpopt/parameters/parameter_set.hpp"

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <tuple>
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
    if ((!reduction_.under_way() && !reduction_.broken()) || communicator_.size() == 1) return;
    if constexpr (requires(communicator_type& c) { c.abandon(); }) communicator_.abandon();
    else {                                                                          // deliberately never freed
      new contributions<clipper_type, accumulator_type>(std::move(contributions_)); // NOLINT
      new control_message(std::move(control_));                                     // NOLINT
      new std::vector<T>(std::move(memory_.own_gradients()));                       // NOLINT
      new reduction<communicator_type, scatters>(std::move(reduction_));            // NOLINT
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
      reduction_.require_whole();
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
    if (reduction_.under_way() || phase_ != phase::accumulating)
      throw state_error("discard(): the last microbatch is already on its way to the other ranks; call step()");
    abandon_sums();
  }

  /// The next pre_step() or step() only accumulates (a virtual step): no noise, no communication, no update. Signal it
  /// before begin(), on every rank. Logical batches are not counted by it.
  void signal_skip_step(bool do_skip = true) {
    if (do_skip && reduction_.under_way())
      throw state_error("signal_skip_step: reductions of this step have started; signal it before begin()");
    skip_next_ = do_skip;
    if (!do_skip) return;
    state_.continue_step();
    reduction_.progress().reset();
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
    failure_.record([&] { memory_.make_gradients(); });
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
    failure_.record([&] { memory_.make_gradients(); });
    if (!reduce()) throw state_error("add_noise(): a skipped step has no noise; do not signal_skip_step before it");
    or_abandon([this] { write_gradients(1); });
    phase_ = phase::noised;
  }

  /// Divides the noisy sum that add_noise() left. @throw state_error out of order.
  void scale_grad() {
    if (phase_ != phase::noised)
      throw state_error("scale_grad(): there is no noisy sum to divide; call add_noise() first");
    for (isize p = 0; p < parameters_.count(); ++p)
      for (T& g : memory_.gradient(p)) g /= static_cast<T>(divisor_);
    phase_ = phase::released;
  }

  /// Called with this optimizer after each release and before the base optimizer, when gradients are safe to look at.
  /// An exception of the hook leaves the release in place: step() goes on with the update.
  void attach_step_hook(std::function<void(dp_optimizer&)> hook) {
    memory_.make_gradients();
    hook_.attach(std::move(hook));
  }

  /// Zeroes the parameters' gradients. Optional, at any time, any number of times: sums are step()'s own business. What
  /// pre_step() or add_noise() left there is dropped, and that step is over.
  void zero_grad() {
    hook_.require_outside("zero_grad()");
    if (phase_ == phase::released || phase_ == phase::noised) finish_step();
    for (const auto& p : parameters_) std::fill(p.gradient.begin(), p.gradient.end(), T(0));
  }

  /// For parameters that share a norm (flat, per_group): the memory, of all of them together, in which samples of
  /// convolutions and sequences that were written out for their norms wait for their factors; 64 MiB at first. All need
  /// samples x parameters numbers of the sum's type; what does not fit, or cannot be had, is written a second time,
  /// with the same numbers. 0: none are written out, which takes the least memory and is the faster way where less than
  /// about half would fit. At any time, local; memory that was taken stays.
  ///
  /// Privacy: norms and factors do not depend on how many fit, only on whether this is 0: alike on all ranks, and not
  /// to be chosen by the batch. @throw invalid_argument when it is negative.
  void keep_rows(isize bytes) {
    if (bytes < 0) throw invalid_argument(message("keep_rows: ", bytes, " bytes; give 0 or more"));
    contributions_.keep_rows(bytes);
  }
  template <std::same_as<bool> B>
  void keep_rows(B) = delete; // bytes, of which true would be one

  /// From now on scratch memory is the user's, which outlives this optimizer and serves nothing else meanwhile. At any
  /// time, on any rank. Empty: from the heap again. No scratch comes from the heap while workspace_bytes() is at most
  /// what was given; rows that wait (keep_rows) are not scratch. Before the first step nobody knows the need: what does
  /// not fit then comes from the heap, since a step that failed for it would cost privacy, and workspace_bytes() tells.
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
    if constexpr (CorrelatedNoise<noise_type>) return budget_.noise_std() / divisor_ * noise_.row_norm();
    else return budget_.noise_std() / divisor_;
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
    memory_.make_gradients();
    return memory_.gradient(p);
  }
  /// State array `slot` of the elementwise base optimizer for parameter p, such as exponential_average's average;
  /// changes with each step. Computed from released gradients alone, so public. @throw invalid_argument for an unknown
  /// p or slot.
  [[nodiscard]] std::span<const T> optimizer_slot(isize p, std::size_t slot) const {
    if constexpr (slots > 0)
      if (p >= 0 && p < parameters_.count() && slot < slots) {
        if (memory_.keeps(slot)) return memory_.slot(p, slot);
        throw invalid_argument(
            message("optimizer_slot: slot ", slot, " is not kept; ", detail::policy_text(base_), " has no use for it"));
      }
    throw invalid_argument(message("optimizer_slot: parameter ", p, ", slot ", slot, " does not exist; there are ",
                                   parameters_.count(), " parameters with ", slots, " slots each"));
  }
  /// Bytes of scratch memory that the steps so far needed, on this rank. They follow from layers and types, not from
  /// batch sizes, which cost 16 bytes a sample beside it, 8 more for each group of several parameters, and the rows of
  /// keep_rows() with 8 for each that does not fit. PRIVATE all the same, as counts are: a source of one's own may
  /// need more for a gradient that cancels or is not finite.
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
  using memory_type = update_memory<T, base_type, scatters>;
  static constexpr std::size_t slots = memory_type::slots;

  struct composed {
    std::tuple<Policies...> policies;
  };

  template <ParameterList R>
  dp_optimizer(const R& parameters, dp_options options, composed given)
      : parameters_(parameters), state_(parameters_.infos()), options_(options),
        contributions_(take_policy<clipper_type>(given.policies), take_policy<accumulator_type>(given.policies)),
        communicator_(take_policy<communicator_type>(given.policies)), noise_(take_policy<noise_type>(given.policies)),
        placement_(take_policy<placement_type>(given.policies)), scaling_(take_policy<scaling_type>(given.policies)),
        base_(take_policy<base_type>(given.policies)), accountant_(take_policy<accountant_type>(given.policies)),
        memory_(parameters_, reduction_.plan()) {
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
    reduction_.bind(bucket_plan(sizes, options_.bucket_elements), communicator_);
    std::vector<isize> offsets;
    for (isize p = 0; p < parameters_.count(); ++p) offsets.push_back(plan().offset(p));
    contributions_.bind(state_.parameters(), std::move(offsets));
    if constexpr (CorrelatedNoise<noise_type>) noise_.bind(sizes, std::ssize(contributions_.side()));
    start_step();
    detail::require_gradient_multiplier(noise_, contributions_.clipper()); // refuse early
    control_ = control_message(std::ssize(contributions_.side()));
    memory_.make_slots(base_);
    fix_noise();
    if constexpr (!elementwise || scatters) memory_.make_gradients();
    if constexpr (placement_type::before_reduction && std::integral<sum_type>) mask_.draw_key();
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
    reduction_.progress().contributed(p);
    while (const auto k = reduction_.progress().next_ready()) post(*k);
  }

  /// Starts the reduction of bucket k, with this rank's share of noise if the placement is before the reduction.
  void post(isize k) {
    const auto& bucket = plan().buckets()[static_cast<std::size_t>(k)];
    contributions_.seal(bucket.first, bucket.size);
    if constexpr (placement_type::before_reduction) {
      const share mine = placement_.before(communicator_.rank(), communicator_.size());
      const double std_in_units = budget_.noise_std() * mine.std_factor / contributions_.sum().unit();
      if (std_in_units > 0)
        failure_.record([&] {
          for (isize p = bucket.lowest_parameter; p < bucket.lowest_parameter + bucket.members; ++p)
            noise_.add(detail::gradient_address(steps_, p, 0, mine.lane), std_in_units,
                       contributions_.sum().data() + plan().offset(p), parameters_[p].size());
        });
      // Without this rank's noise the others would see their exact sum: let them see nothing.
      if (failure_) spoil_sums(contributions_.sum().data() + bucket.first, bucket.size);
    }
    reduction_.start_sum(communicator_, k, contributions_.sum().data() + bucket.first);
  }

  void spoil_sums(sum_type* sums, isize n) noexcept {
    const std::span numbers(sums, static_cast<std::size_t>(n));
    if constexpr (std::integral<sum_type>) mask_.spoil(numbers);
    else spoil(numbers);
  }

  /// COLLECTIVE unless skipped: completes the sum over ranks, charges the accountant, agrees on status.
  bool reduce() {
    if (reduction_.broken()) failure_.raise(); // what broke it, once
    reduction_.require_whole();
    failure_.record([&] { close_microbatch(); });
    if (reduction_.broken()) failure_.raise();
    last_skipped_ = std::exchange(skip_next_, false);
    if (last_skipped_) return false;
    failure_.record([&] { state_.require_step(); });
    failure_.record([&] { require_own_process(); });
    failure_.record([&] { require_same_noise(); });
    while (const auto k = reduction_.progress().rest()) post(*k);
    last_iterations_ = state_.accumulated_iterations();
    divisor_ = scaling_.divisor(std::max<isize>(1, last_iterations_), communicator_.size());
    failure_.record([&] { memory_.make_slots(base_); });
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

  /// @throw as step_budget::fix(), and in a forked child.
  void fix_noise() {
    require_own_process();
    budget_.template fix<sum_type>(noise_, contributions_.clipper(), options_.relation, contributions_.sum().unit());
  }

  /// @throw state_error in a forked child, which would repeat its parent's noise. With a user's seed nothing is private
  /// anyway.
  void require_own_process() const {
    if (!detail::is_reproducible(noise_)) process_.require("the optimizer");
  }

  /// @throw state_error when somebody changed the noise while samples were accumulating.
  void require_same_noise() const {
    if (!state_.empty()) budget_.require_same(noise_, contributions_.clipper(), options_.relation);
  }

  /// Tells the accountant, before anything is released.
  void charge(double rate) { budget_.charge(accountant_, noise_, rate, options_.relation); }

  /// Draws the last number that this step will need and throws it away, so that an exhausted stream is an error of all
  /// ranks before the first parameter is written.
  void probe_noise() {
    if constexpr (CorrelatedNoise<noise_type>) {
      noise_.require_row(steps_);
    } else if constexpr (AddressableNoise<noise_type>) {
      if (budget_.multiplier() > 0) detail::probe_stream<sum_type>(noise_, parameters_, steps_);
    }
  }

  /// COLLECTIVE. Every rank returns, or every rank throws with the sums dropped.
  void exchange_status(bool charged) {
    std::uint64_t base = 0; // learning rates may change
    std::ranges::copy(contributions_.side(), control_.side().begin());
    failure_.record([&] {
      if (communicator_.size() > 1) base = detail::policy_digest(base_);
      add_side_noise(placement_.before(communicator_.rank(), communicator_.size()));
    });
    const step_declaration mine{.step = steps_,
                                .iterations = last_iterations_,
                                .sampling_rate = state_.sampling_rate(),
                                .noise_multiplier = budget_.multiplier(),
                                .noise_std = budget_.noise_std(),
                                .base = base,
                                .updates = updates_ - half_updates_};
    if (failure_ && placement_type::before_reduction) spoil(control_.side());
    const bool failed = static_cast<bool>(failure_);
    control_.declare(failed, failed ? 0.0 : mine.digest(), state_.empty() ? 0.0 : state_.sampling_rate());
    reduction_.exchange(communicator_, control_.data(), control_.size());
    const auto pay = [&](double rate) { charge(rate); };
    const auto words = [&] { return detail::policy_text(base_); };
    if (ranks_agree(control_, communicator_.size(), mine, charged, pay, words, failure_)) return;
    ++steps_; // noise placed before the reduction has been seen by other ranks
    abandon_sums();
    failure_.raise_together(communicator_);
  }

  [[nodiscard]] const bucket_plan& plan() const noexcept { return reduction_.plan(); }
  /// For checkpoints, as the device's.
  [[nodiscard]] bool broken() const noexcept { return reduction_.broken(); }

  /// Whether noise, scaling and update can share one pass.
  [[nodiscard]] bool fused() const noexcept { return elementwise && !scatters && !hook_; }

  /// Noise before the reduction is drawn while the step's number is still to be taken.
  [[nodiscard]] std::uint64_t noise_step_or_next() const noexcept {
    return phase_ == phase::accumulating ? steps_ : noise_step_;
  }

  /// The release of the reduced sum, divided by `divisor`.
  [[nodiscard]] step_release<T, sum_type, noise_type> release(double divisor) {
    const share mine = placement_.after(communicator_.rank(), communicator_.size());
    const double unit = contributions_.sum().unit();
    return {parameters_,
            plan(),
            contributions_.sum().data(),
            noise_,
            noise_step_,
            mine.lane,
            {unit, budget_.noise_std() * mine.std_factor, divisor}};
  }

  /// The base optimizer's constants of this step; it may ask to be told the noise.
  [[nodiscard]] auto step_constants() const {
    if constexpr (NoiseAwareOptimizer<base_type, T>) return base_.at(updates_, noise_std());
    else return base_.at(updates_);
  }

  void release_and_update() {
    if constexpr (elementwise) {
      memory_.make_slots(base_);
      release(divisor_).update(memory_, step_constants());
    }
  }

  void write_gradients(double divisor) {
    if constexpr (scatters) {
      release(divisor).gather_gradients(memory_, reduction_, communicator_, failure_);
      contributions_.clear_sum(); // the parts of other ranks, too
    } else release(divisor).write_gradients(memory_);
    phase_ = phase::released;
  }

  void update_from_gradients() {
    if constexpr (elementwise) {
      memory_.make_slots(base_); // the hook may have changed options
      const auto constants = step_constants();
      for (isize p = 0; p < parameters_.count(); ++p)
        constants.update(parameters_[p].value.data(), memory_.gradient(p).data(), memory_.tile(p, 0),
                         parameters_[p].size());
    } else {
      try {
        for (isize p = 0; p < parameters_.count(); ++p)
          base_(parameter_update<T>{updates_, p, parameters_[p].name, parameters_[p].value, memory_.gradient(p)});
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

  void finish_step() {
    phase_ = phase::accumulating;
    hook_.next_step();
    state_.reset();
    reduction_.progress().reset();
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
    hook_.require_outside("a step with a closure");
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
  reduction<communicator_type, scatters> reduction_;
  control_message control_;
  memory_type memory_;
  step_budget budget_;
  integer_mask mask_; // of sums on an integer grid that have noise before they are reduced
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
  bool skip_next_ = false;
  bool last_skipped_ = false;
};

/// Order-free: dp_optimizer opt(parameters, dp_options{}, flat{1.0}, counter_gaussian{1.1}, adam{}).
template <ParameterList R, class... P>
dp_optimizer(const R&, dp_options, P...)
    -> dp_optimizer<typename std::ranges::range_value_t<R>::value_type,
                    policy_of<typename std::ranges::range_value_t<R>::value_type, P>...>;

} // namespace dpopt
