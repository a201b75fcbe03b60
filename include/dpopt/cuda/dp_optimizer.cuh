// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The private optimizer on a device: the same begin / gradient_ready / step, the same policies for bounds, noise,
/// scaling, update and accounting as the core's dp_optimizer, and the same noise from the same seed.
///
/// A step puts its work on one stream and returns: it waits for the device only when its clipper learns from norms
/// (adaptive, norm_quantiles: one copy behind an event), when hardened noise is drawn by the host (for its buffer of
/// the step before), or in a communicator that stages through the host. After the first step of a size it allocates
/// nothing.
///
/// What differs from the core: clipping is always as_ready; noise is always placed after the reduction; all sums travel
/// in one message in step(). step() alone is one kernel for noise, scale and update; pre_step() and hooks take two.
#pragma once

#include "dpopt/accounting/open_ledger.hpp"
#include "dpopt/communication/agreement.hpp"
#include "dpopt/communication/failure.hpp"
#include "dpopt/communication/shared_secret.hpp"
#include "dpopt/core/error.hpp"
#include "dpopt/core/own_process.hpp"
#include "dpopt/core/schedules.hpp"
#include "dpopt/cuda/device_composition.hpp"
#include "dpopt/cuda/device_contributions.cuh"
#include "dpopt/cuda/device_release.cuh"
#include "dpopt/cuda/parameter_view.hpp"
#include "dpopt/dp_optimizer/batch_state.hpp"
#include "dpopt/dp_optimizer/configuration.hpp"
#include "dpopt/dp_optimizer/control_message.hpp"
#include "dpopt/dp_optimizer/dp_optimizer.hpp"
#include "dpopt/dp_optimizer/step_budget.hpp"
#include "dpopt/dp_optimizer/step_noise.hpp"
#include "dpopt/dp_optimizer/trainer_code.hpp"
#include "dpopt/parameters/fingerprint.hpp"
#include "dpopt/parameters/ownership.hpp"
#include "dpopt/parameters/parameter_set.hpp"

#include <algorithm>
#include <concepts>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

namespace dpopt {
struct checkpoint_access;
}

namespace dpopt::cuda {

/// Template arguments after T are policies in any order, one of them the device. One object, one host thread at a time;
/// all ranks call the collective members in the same order.
///
/// NEVER replay a captured step: its numbers of noise are those of the step that was captured, and nobody would tell
/// the accountant. Capture each step anew (the sequence of calls is always the same, so cudaGraphExecUpdate takes it).
template <std::floating_point T, Policy... Policies>
class dp_optimizer {
  friend struct dpopt::checkpoint_access; // checkpoint/checkpoint.hpp

public:
  using roles_of = device_composition<T, Policies...>;
  using device_type = typename roles_of::device_type;
  using clipper_type = typename roles_of::clipper_type;
  using accumulator_type = typename roles_of::accumulator_type;
  using communicator_type = typename roles_of::communicator_type;
  using noise_type = typename roles_of::noise_type;
  using scaling_type = typename roles_of::scaling_type;
  using base_type = typename roles_of::base_type;
  using accountant_type = typename roles_of::accountant_type;
  using sum_type = typename roles_of::sum_type;

  /// COLLECTIVE, and WAITS for the device. As the core's: claims the parameters, checks every option, agrees with the
  /// other ranks on the configuration and shares the root's secret.
  /// @param parameters views of device memory; values are alike on every rank.
  /// @throw invalid_argument, rank_error, randomness_error, device_error.
  template <DeviceParameterList R, class... Given>
    requires(sizeof...(Given) == sizeof...(Policies))
  dp_optimizer(const R& parameters, dp_options options, Given... given)
      : dp_optimizer(parameters, options, composed{{Policies{std::move(given)}...}}) {}

  dp_optimizer(const dp_optimizer&) = delete;
  dp_optimizer& operator=(const dp_optimizer&) = delete;

  // ---- accumulate: local, never waits ------------------------------------------------------------------------------

  /// Opens a microbatch. `m.weights`, if given, are device memory that must stay as it is until clip_and_accumulate(),
  /// step() or the next begin() has returned: the factors of kept(source) are made there, and a clipper that learns
  /// copies them there. Errors are recorded and thrown by step() on all ranks. After pre_step() that step is over.
  void begin(const microbatch& m) {
    hook_.require_outside("begin()");
    if (phase_ == phase::released) finish_step();
    failure_.record([&] {
      require_communicator();
      close_microbatch();
      if (state_.empty()) {
        start_step();
        fix_noise();
      }
      state_.begin(m, !skip_next_);
      contributions_.begin(on_, m);
    });
  }

  /// Hands over the per-sample gradients of parameter p for the open microbatch, any order. Work that follows on the
  /// stream may overwrite the data when p's group is complete; that of kept(source) when step() or the next begin() has
  /// returned, as it may wait until then for a launch together with other small parameters.
  template <class S>
  void gradient_ready(isize p, const S& source) {
    static_assert(
        DeviceAccumulatesFrom<accumulator_type, S, device_type>,
        "dpopt: this source is none of the device's, or the accumulator needs each sample by itself, which it "
        "cannot give (see cuda/device_gradients.hpp).");
    failure_.record([&] {
      if constexpr (CheckedSource<S>) state_.require_sound(p, source.problem());
      state_.arrive(p, source.batch(), source.size());
      contributions_.add(on_, p, source);
    });
  }

  /// Declares that parameter p took no part in the open microbatch: zero for every sample.
  void gradient_absent(isize p) {
    failure_.record([&] {
      state_.arrive_absent(p);
      contributions_.add_absent(on_, p);
    });
  }

  /// Checks that nothing is missing in the open microbatch; step() and begin() do it themselves.
  void clip_and_accumulate() {
    failure_.record([&] { close_microbatch(); });
  }

  /// The next step() only ends a part of a logical batch.
  void signal_skip_step(bool do_skip = true) {
    skip_next_ = do_skip;
    if (do_skip) state_.continue_step();
  }

  /// Drops everything accumulated since the last step on this rank. @throw state_error after the release.
  void discard() {
    if (phase_ != phase::accumulating)
      throw state_error("discard(): this step's gradient was released already; call step(), begin() or zero_grad()");
    state_.reset();
    contributions_.forget();
    failure_.record([&] { contributions_.clear_sums(on_); });
  }

  // ---- release: COLLECTIVE -----------------------------------------------------------------------------------------

  /// Completes the step: reduce, agree, account, noise, scale, update; one launch writes all parameters.
  /// @return false for a skipped (virtual) step. @throw rank_error on every rank when one failed (with one rank the
  ///   error itself): values and optimizer state stay as they were, the sums are dropped, the budget stays charged.
  ///   @throw communication_error on every rank, from then on at every call, when a sum over ranks could not be
  ///   started. A fault inside a kernel is no error of this call: CUDA reports it at one of the next.
  bool step() {
    hook_.require_outside("step()");
    if (phase_ == phase::accumulating && !reduce()) return false;
    if (phase_ == phase::reduced && !hook_) {
      or_abandon([this] { release(); });
    } else {
      if (phase_ == phase::reduced) or_abandon([this] { write_gradients(); });
      hook_.call(*this);
      or_abandon([this] { release_.update(on_, noise_step_, step_constants()); });
    }
    ++updates_;
    finish_step();
    return true;
  }

  /// Runs closure (which calls begin and gradient_ready), then step(). An exception of the closure is raised on all
  /// ranks, after a skipped step by the next real one. @return what the closure returned; a value-initialised result
  /// when it threw in a skipped step.
  template <std::invocable F>
  auto step(F&& closure) {
    return run(std::forward<F>(closure), [this] { step(); });
  }

  /// Everything before the base optimizer: work that follows on the stream finds the released gradients in the arrays
  /// that the views name, or in released_gradient(), for an optimizer of the trainer's own. Call step() to apply the
  /// one composed here instead, or zero_grad()/begin() to go on. The first call allocates and WAITS for the device.
  /// @return false for a skipped (virtual) step. @throw as step().
  bool pre_step() {
    hook_.require_outside("pre_step()");
    failure_.record([&] { release_.make_gradients(on_); });
    if (phase_ == phase::accumulating && !reduce()) return false;
    if (phase_ == phase::reduced) or_abandon([this] { write_gradients(); });
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

  /// Called with this optimizer after each release and before the base optimizer; what the hook puts on the stream sees
  /// the released gradients and goes before the update. An exception of the hook leaves the release in place: step()
  /// goes on with the update. Allocates and WAITS for the device. @throw device_error.
  void attach_step_hook(std::function<void(dp_optimizer&)> hook) {
    release_.make_gradients(on_);
    hook_.attach(std::move(hook));
  }

  /// Puts zeros into the gradient arrays that the views name; at any time. What pre_step() left there is dropped, and
  /// that step is over. @throw device_error.
  void zero_grad() {
    hook_.require_outside("zero_grad()");
    if (phase_ == phase::released) finish_step();
    for (const auto& p : parameters_)
      if (!p.gradient.empty()) on_.zero(p.gradient.data(), p.gradient.size_bytes(), "zero gradients");
  }

  // ---- look: local, public unless the name says private ------------------------------------------------------------

  [[nodiscard]] isize accumulated_iterations() const noexcept {
    return state_.empty() ? last_iterations_ : state_.accumulated_iterations();
  }
  [[nodiscard]] bool last_step_skipped() const noexcept { return last_skipped_; }
  /// Steps applied by the base optimizer.
  [[nodiscard]] std::uint64_t updates() const noexcept { return updates_; }
  /// Steps whose gradient was released, to the base optimizer or to the trainer: the t of schedules.
  [[nodiscard]] std::uint64_t releases() const noexcept { return releases_; }
  [[nodiscard]] double sensitivity() const { return contributions_.clipper().sensitivity(options_.relation); }
  /// Standard deviation of the noise on each number of the last released gradient.
  [[nodiscard]] double noise_std() const noexcept { return budget_.noise_std() / divisor_; }
  [[nodiscard]] double epsilon(double delta) const { return accountant_.epsilon(delta); }
  [[nodiscard]] bool reproducible() const {
    return dpopt::detail::is_reproducible(noise_) || state_.reproducible_sampling();
  }
  /// The sentence to print: epsilon, delta, and a flag when the run is reproducible.
  [[nodiscard]] std::string privacy_statement(double delta) const {
    return dpopt::detail::privacy_text(epsilon(delta), delta, reproducible());
  }
  /// The effective configuration, without secrets.
  [[nodiscard]] std::string describe() const { return dpopt::detail::lines_of(configuration()); }
  /// The released gradient of parameter p after pre_step() or inside the step hook: DEVICE memory, for work that
  /// follows on the stream. The first call may allocate and WAIT. @throw invalid_argument for an unknown p,
  /// device_error.
  [[nodiscard]] std::span<const T> released_gradient(isize p) {
    if (p < 0 || p >= parameters_.count())
      throw invalid_argument(
          message("released_gradient: parameter ", p, " does not exist; there are ", parameters_.count()));
    release_.make_gradients(on_);
    return {release_.gradient(p), parameters_[p].value.size()};
  }
  /// PRIVATE: counts of samples on this rank in the step that is accumulating, as far as their factors were asked for;
  /// until the next begin() those of the last one. Not covered by any epsilon. WAITS for the device.
  [[nodiscard]] private_counts private_sample_counts() { return contributions_.counts(on_); }

  [[nodiscard]] base_type& base_optimizer() noexcept { return base_; }
  [[nodiscard]] noise_type& noise() noexcept { return noise_; }
  [[nodiscard]] const clipper_type& clipper() const noexcept { return contributions_.clipper(); }
  [[nodiscard]] const accountant_type& accountant() const noexcept { return accountant_; }
  [[nodiscard]] communicator_type& communicator() noexcept { return communicator_; }

private:
  enum class phase {
    accumulating, ///< begin and gradient_ready
    reduced,      ///< the sum over ranks is on the stream and accounted for
    released,     ///< gradients hold the released gradient
  };
  static constexpr isize alignment = 64; // elements: every parameter's sums start where a warp's loads may be wide

  struct composed {
    std::tuple<Policies...> policies;
  };

  template <DeviceParameterList R>
  dp_optimizer(const R& parameters, dp_options options, composed given)
      : parameters_(parameters), state_(parameters_.infos()), options_(options),
        on_(take_policy<device_type>(given.policies)),
        contributions_(take_policy<clipper_type>(given.policies), take_policy<accumulator_type>(given.policies)),
        communicator_(take_policy<communicator_type>(given.policies)), noise_(take_policy<noise_type>(given.policies)),
        scaling_(take_policy<scaling_type>(given.policies)), base_(take_policy<base_type>(given.policies)),
        accountant_(take_policy<accountant_type>(given.policies)) {
    std::vector<fingerprint_field> fields;
    failure_.record([&] {
      prepare();
      fields = fingerprints(); // policies put themselves in words, and may fail at it
    });
    failure_.raise_together(host());
    require_equal(host(), fields);
    if constexpr (SharesSecret<noise_type>) share_secret(host(), noise_);
    if constexpr (KeepsLedger<accountant_type>) open_ledger(host(), accountant_);
  }

  void prepare() {
    parameters_.validate();
    noise_.validate();
    scaling_.validate();
    base_.validate();
    if constexpr (requires { accountant_.validate(); }) accountant_.validate();
    for (const auto& p : parameters_) {
      claim_.claim(p.name, p.value.data(), p.value.size_bytes());
      claim_.claim(message(p.name, ".gradient"), p.gradient.data(), p.gradient.size_bytes());
    }
    std::vector<isize> offsets;
    isize total = 0;
    for (const auto& p : parameters_) {
      offsets.push_back(total);
      total += (p.size() + alignment - 1) / alignment * alignment;
    }
    contributions_.bind(on_, state_.parameters(), offsets, total);
    start_step();
    dpopt::detail::require_gradient_multiplier(noise_, contributions_.clipper());
    control_ = control_message(contributions_.side_scalars() + 1);
    fix_noise();
    release_.bind(on_, parameters_, offsets, contributions_.sums(), total);
  }

  [[nodiscard]] auto& host() noexcept { return communicator_.host(); }
  [[nodiscard]] int ranks() noexcept { return host().size(); }

  [[nodiscard]] dpopt::detail::configuration_texts configuration() const {
    return {{"parameters", dpopt::detail::shapes_text(parameters_)},
            {"master type", sizeof(T) == sizeof(float) ? "float" : "double"},
            {"clipper", contributions_.clipper().describe()},
            {"accumulator", contributions_.accumulator().describe()},
            {"noise", dpopt::detail::noise_text(noise_)},
            {"placement", replicated::describe()},
            {"scaling", scaling_.describe()},
            {"base optimizer", dpopt::detail::policy_text(base_)},
            {"accountant", dpopt::detail::policy_text(accountant_)},
            {"schedule", "as_ready"},
            {"neighbouring", std::string(name_of(options_.relation))}};
  }

  [[nodiscard]] std::vector<fingerprint_field> fingerprints() {
    std::vector<fingerprint_field> out = dpopt::detail::fields_of(configuration(), noise_);
    out.push_back({"lengths of messages", fingerprint().add(control_.size()).add(contributions_.total()).value()});
    fingerprint values;
    if (ranks() > 1) add_values(values);
    out.push_back({"parameter values", values.value()});
    return out;
  }

  /// WAITS for the device.
  void add_values(fingerprint& digest) {
    for (const auto& p : parameters_) {
      pinned_vector<T, device_type> copy(on_.device(), p.size());
      on_.copy(copy.data(), p.value.data(), p.value.size_bytes(), copy_direction::to_host, "copy values");
      on_.device().synchronize(on_.stream(), "synchronize values");
      for (const T x : copy.numbers()) digest.add(static_cast<double>(x));
    }
  }

  void close_microbatch() {
    if (!state_.open()) return;
    state_.require_complete();
    contributions_.close(on_);
    state_.close();
  }

  bool reduce() {
    if (broken_) require_communicator();
    failure_.record([&] { close_microbatch(); });
    last_skipped_ = std::exchange(skip_next_, false);
    if (last_skipped_) return false;
    failure_.record([&] { state_.require_step(); });
    failure_.record([&] { require_own_process(); });
    failure_.record([&] { require_same_noise(); });
    bool summed = false;
    failure sum_failure; // the sum is collective: whatever failed before, this rank takes part
    sum_failure.record([&] {
      communicator_.sum(on_, contributions_.sums(), contributions_.total());
      summed = true;
    });
    failure_.record([&] { sum_failure.raise(); });
    last_iterations_ = state_.accumulated_iterations();
    divisor_ = scaling_.divisor(std::max<isize>(1, last_iterations_), ranks());
    failure_.record([&] {
      if (budget_.multiplier() > 0) dpopt::detail::probe_stream<sum_type>(noise_, parameters_, steps_);
    });
    failure_.record(
        [&] { release_.draw(on_, noise_, budget_.noise_std() / contributions_.accumulator().unit(), steps_); });
    failure_.record([&] { copy_side_scalars(); });
    bool charged = false;
    failure_.record([&] {
      charge(state_.sampling_rate());
      charged = true;
    });
    exchange_status(summed, charged);
    noise_step_ = steps_++; // the numbers of this step are never drawn again, whatever happens now
    ++releases_;
    phase_ = phase::reduced;
    or_abandon([this] { learn(); });
    return true;
  }

  void copy_side_scalars() {
    if constexpr (LearningClipper<clipper_type>) std::ranges::copy(contributions_.side(on_), control_.side().begin());
  }

  void learn() {
    if constexpr (LearningClipper<clipper_type>) {
      const auto side = control_.side().first(static_cast<std::size_t>(contributions_.side_scalars()));
      const double std = contributions_.clipper().side_std(options_.relation);
      if (std > 0) noise_.add({purpose::side_scalars, 0, noise_step_, 0, 0}, std, side.data(), std::ssize(side));
      contributions_.clipper().learn(side, std::max<isize>(1, last_iterations_), ranks());
    }
  }

  void start_step() { dpopt::detail::start_schedules(noise_, contributions_.clipper(), releases_); }

  void fix_noise() {
    require_own_process();
    budget_.template fix<sum_type>(noise_, contributions_.clipper(), options_.relation,
                                   contributions_.accumulator().unit());
  }

  /// @throw state_error in a forked child, as the core.
  void require_own_process() const {
    if (!dpopt::detail::is_reproducible(noise_)) process_.require("the optimizer");
  }

  void require_same_noise() const {
    if (!state_.empty()) budget_.require_same(noise_, contributions_.clipper(), options_.relation);
  }

  void charge(double rate) { budget_.charge(accountant_, noise_, rate, options_.relation); }

  void require_communicator() const {
    if (broken_)
      throw communication_error(
          "the communicator failed in an earlier step, or resume() half-way; make a new optimizer");
  }

  /// Ranks no longer agree on what was sent: nothing can go on, and no stream is to wait for a sum.
  void give_up_ranks() noexcept {
    broken_ = true;
    if constexpr (AbandonsSums<communicator_type>) communicator_.abandon();
  }

  /// COLLECTIVE, on the host. Every rank returns, or every rank throws with the sums dropped.
  void exchange_status(bool summed, bool charged) {
    std::uint64_t base = 0; // learning rates may change
    failure_.record([&] {
      if (ranks() > 1) base = dpopt::detail::policy_digest(base_);
    });
    const step_declaration mine{.step = steps_,
                                .iterations = last_iterations_,
                                .sampling_rate = state_.sampling_rate(),
                                .noise_multiplier = budget_.multiplier(),
                                .noise_std = budget_.noise_std(),
                                .base = base,
                                .updates = updates_};
    const bool failed = static_cast<bool>(failure_);
    control_.declare(failed, failed ? 0.0 : mine.digest(), state_.empty() ? 0.0 : state_.sampling_rate());
    control_.side().back() = summed ? 0 : 1;
    try {
      auto request = host().start_sum(control_.data(), control_.size());
      host().wait(request);
    } catch (...) {
      give_up_ranks();
      throw;
    }
    if (control_.side().back() > 0) give_up_ranks(); // before anything more goes to streams that may wait for ever
    const auto pay = [&](double rate) { charge(rate); };
    const auto words = [&] { return dpopt::detail::policy_text(base_); };
    if (ranks_agree(control_, ranks(), mine, charged, pay, words, failure_)) return;
    ++steps_;
    abandon_sums();
    failure_.raise_together(host());
  }

  /// The base optimizer's constants of this step; it may ask to be told the noise.
  [[nodiscard]] auto step_constants() const {
    if constexpr (NoiseAwareOptimizer<base_type, T>) return base_.at(updates_, noise_std());
    else return base_.at(updates_);
  }

  /// For checkpoints, as the core's.
  [[nodiscard]] bool broken() const noexcept { return broken_; }
  [[nodiscard]] auto image() { return release_.image(on_, parameters_); }

  [[nodiscard]] release_constants constants() const {
    return {contributions_.accumulator().unit(), budget_.noise_std(), divisor_};
  }
  void release() { release_.launch(on_, noise_, noise_step_, constants(), step_constants()); }
  void write_gradients() {
    release_.write_gradients(on_, noise_, noise_step_, constants());
    phase_ = phase::released;
  }

  void finish_step() {
    phase_ = phase::accumulating;
    hook_.next_step();
    state_.reset();
    contributions_.forget();
    failure_.record([this] { start_step(); });
  }

  void abandon_sums() {
    failure clearing; // if it fails, begin() tries again before anything is added
    clearing.record([&] { contributions_.clear_sums(on_); });
    finish_step();
  }

  template <class F>
  void or_abandon(F&& f) {
    try {
      f();
    } catch (...) {
      abandon_sums();
      throw;
    }
  }

  template <class F, class Collective>
  auto run(F&& closure, Collective&& collective) {
    hook_.require_outside("a step with a closure");
    if (phase_ == phase::released) finish_step(); // a closure begins a step of its own
    return run_closure(failure_, std::forward<F>(closure), std::forward<Collective>(collective));
  }

  parameter_set<T> parameters_;
  ownership claim_;
  own_process process_;
  batch_state state_;
  dp_options options_;
  device_work<device_type> on_;
  device_contributions<clipper_type, accumulator_type, device_type> contributions_;
  communicator_type communicator_;
  noise_type noise_;
  scaling_type scaling_;
  base_type base_;
  accountant_type accountant_;
  control_message control_;
  device_release<T, sum_type, base_type, noise_type, device_type> release_;
  step_budget budget_;
  step_hook<dp_optimizer> hook_;
  failure failure_;
  phase phase_ = phase::accumulating;
  std::uint64_t steps_ = 0;      // numbers of noise used up; also by failed steps
  std::uint64_t noise_step_ = 0; // number of the step being released
  std::uint64_t updates_ = 0;
  std::uint64_t releases_ = 0;
  isize last_iterations_ = 0;
  double divisor_ = 1;
  bool broken_ = false; // on all ranks alike
  bool skip_next_ = false;
  bool last_skipped_ = false;
};

/// Order-free: cuda::dp_optimizer opt(views, dp_options{}, cuda_api(stream), flat{1.0}, counter_gaussian{1.1}, adam{}).
template <DeviceParameterList R, class... P>
dp_optimizer(const R&, dp_options, P...)
    -> dp_optimizer<typename std::ranges::range_value_t<R>::value_type,
                    policy_of<typename std::ranges::range_value_t<R>::value_type, P>...>;

} // namespace dpopt::cuda
