// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// save() and resume(): everything that privacy and training depend on, in one record.
///
/// In it: parameter values, optimizer state, counters of steps, releases and updates, the bounds of a clipper that
/// learns, the accountant's events, the noise's secret and the stored past of correlated noise, and the companions
/// (samplers). KEEP IT AS SECRET AS THE DATA: who has the noise's secret can subtract the noise.
///
/// Noise is never reused. A record continues bit by bit only when a ledger (ledgered) proves that nothing was released
/// since. Otherwise the run goes on from the record's state with a fresh incarnation: noise that no earlier start drew,
/// samplers as they were constructed, correlated noise from its first row and charged as a run of its own. What was
/// released after the record was written is charged where a ledger knows it; without a ledger nobody does, so save
/// after the last step of a run.
///
/// The optimizer of a device (cuda/dp_optimizer.cuh) has the same record: what one of the two saved, the other resumes.
#pragma once

#include "dpopt/checkpoint/record.hpp"
#include "dpopt/communication/failure.hpp"
#include "dpopt/communication/shared_secret.hpp"
#include "dpopt/communication/shared_values.hpp"
#include "dpopt/dp_optimizer/dp_optimizer.hpp"

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace dpopt {

/// Something whose next outputs follow from bytes that it shows, such as poisson_sampler.
template <class C>
concept Companion = requires(C c) { c.visit_state([](std::span<std::byte>) {}); };

struct resume_options {
  /// Accept a record older than the ledger: its releases stay charged and noise is fresh. Otherwise that is an error.
  bool resume_charged = false;
};

enum class resumed {
  bit_by_bit,  ///< the latest record by the ledger: as if the run had never stopped
  fresh_noise, ///< the record's state with noise of its own
};

/// The only friend of the two dp_optimizers; use save() and resume().
struct checkpoint_access {
  template <class Opt>
  static constexpr bool on_device = requires { typename Opt::device_type; };

  /// Values and state where they are.
  template <class Opt>
  struct image_on_host {
    Opt& opt;
    [[nodiscard]] auto value(isize p) const { return opt.parameters_[p].value; }
    [[nodiscard]] std::size_t slots() const { return opt.memory_.slots; }
    [[nodiscard]] auto slot(std::size_t s) const { return std::span(opt.memory_.state()[s]); }
    [[nodiscard]] bool keeps_slot(std::size_t s) const { return opt.memory_.keeps(s); }
    void make_slot(std::size_t s) const { opt.memory_.make_slot(s); }
    static void fetch() noexcept {}
    static void store() noexcept {}
  };
  template <class Opt>
  static auto image_of(Opt& opt) {
    if constexpr (on_device<Opt>) return opt.image();
    else return image_on_host<Opt>{opt};
  }
  /// The host's communicator.
  template <class Opt>
  static auto& ranks_of(Opt& opt) {
    if constexpr (on_device<Opt>) return opt.communicator_.host();
    else return opt.communicator_;
  }

  template <class Opt>
  static void require_between_steps(const Opt& opt, const char* what) {
    if (opt.broken() || opt.failure_ || !opt.state_.empty() || opt.phase_ != Opt::phase::accumulating)
      throw state_error(message(what, ": a step is under way or failed; call it between steps"));
  }

  /// "outer(inner" of "outer(inner(rate=1), decay=2)": the kinds of optimizers without their options.
  static std::string kinds_in(const std::string& text) {
    constexpr std::string_view between = " ,(){}[]";
    std::string out;
    for (auto open = text.find('('); open != std::string::npos; open = text.find('(', open + 1)) {
      const auto before = open == 0 ? std::string::npos : text.find_last_of(between, open - 1);
      const auto first = before == std::string::npos ? 0 : before + 1;
      out += (out.empty() ? "" : "(") + text.substr(first, open - first);
    }
    return out.empty() ? text : out;
  }

  /// What must be alike for a record to fit, as (name, text): all of the configuration except how sums travel and when
  /// samples are clipped, of which nothing is left between steps; and of a base optimizer its kind alone, since
  /// learning rates may change on the way.
  template <class Opt>
  static std::vector<std::pair<std::string, std::string>> requirements(const Opt& opt) {
    std::vector<std::pair<std::string, std::string>> out;
    for (const auto& [name, text] : opt.configuration()) {
      if (name == "bucket_elements" || name == "schedule") continue;
      std::string shown = text;
      if (name == "base optimizer") shown = kinds_in(text);
      if (name == "accumulator" && shown.starts_with("cuda::")) shown.erase(0, 6); // the same numbers elsewhere
      if constexpr (FollowsSteps<typename Opt::noise_type>) // whose multiplier is that of the moment
        if (name == "noise") shown = detail::policy_text(opt.noise_);
      out.emplace_back(name, shown);
    }
    return out;
  }

  template <class Opt, class F>
  static void visit_counters(Opt& opt, F&& f) {
    f("updates", std::as_writable_bytes(std::span(&opt.updates_, 1)));
    f("releases", std::as_writable_bytes(std::span(&opt.releases_, 1)));
    f("steps", std::as_writable_bytes(std::span(&opt.steps_, 1)));
  }

  template <class Opt, class Image, class F>
  static void visit_values(Opt& opt, Image& image, F&& f) {
    for (isize p = 0; p < opt.parameters_.count(); ++p)
      f(message("value of ", opt.parameters_[p].name), std::as_writable_bytes(image.value(p)));
  }

  /// Calls f(name, bytes) for the base optimizer's slots. One that is not in use has no bytes, and stands for zeros.
  template <class Image, class F>
  static void visit_slots(Image& image, F&& f) {
    for (std::size_t s = 0; s < image.slots(); ++s)
      f(message("optimizer slot ", s), std::as_writable_bytes(image.slot(s)));
  }

  /// Room for the slots that the record has numbers in and this run has not: its options may change on the way. Slots
  /// of zeros do without.
  template <class Image>
  static void make_saved_slots(Image& image, const record_reader& in) {
    for (std::size_t s = 0; s < image.slots(); ++s) {
      const auto saved = in.bytes(message("optimizer slot ", s));
      if (!image.keeps_slot(s) && std::ranges::any_of(saved, [](std::byte b) { return b != std::byte{0}; }))
        image.make_slot(s);
    }
  }

  /// Calls f(name, bytes) for what only a run that goes on bit by bit may take over.
  template <class Opt, class F, class... C>
  static void visit_random_state(Opt& opt, F&& f, C&... companions) {
    int piece = 0;
    const auto numbered = [&](std::span<std::byte> bytes) { f(message("random state ", piece++), bytes); };
    if constexpr (SharesSecret<typename Opt::noise_type>) numbered(opt.noise_.secret());
    if constexpr (requires { opt.noise_.visit_state(numbered); }) opt.noise_.visit_state(numbered);
    (companions.visit_state(numbered), ...);
  }

  template <class Opt, Companion... C>
  static std::vector<std::byte> save(Opt& opt, C&... companions) {
    require_between_steps(opt, "save()");
    record_writer out;
    for (const auto& [name, text] : requirements(opt)) out.add("configuration: " + name, text);
    const auto add = [&](const std::string& name, std::span<std::byte> bytes) { out.add(name, bytes); };
    visit_counters(opt, add);
    auto image = image_of(opt);
    image.fetch();
    visit_values(opt, image, add);
    visit_slots(image, add);
    visit_random_state(
        opt, [&](const std::string& name, std::span<std::byte> bytes) { out.add(name, bytes); }, companions...);
    out.add("companions", static_cast<std::uint64_t>(sizeof...(C)));
    out.add("run charged", opt.budget_.run_charged());
    out.add("reproducible sampling", opt.state_.reproducible_sampling());
    if (opt.state_.used_draw()) out.add("sampler's draw", *opt.state_.used_draw());
    if constexpr (RestorableClipper<typename Opt::clipper_type>) {
      const std::vector<double> learned = opt.clipper().state();
      out.add("clipper", std::as_bytes(std::span(learned)));
    }
    if constexpr (RecallsEvents<typename Opt::accountant_type>) {
      const auto& events = opt.accountant_.history();
      out.add("events", std::as_bytes(std::span(events)));
    }
    if constexpr (KeepsLedger<typename Opt::accountant_type>)
      if (const auto position = opt.accountant_.position()) out.add("ledger", *position);
    return out.finish();
  }

  template <class Opt>
  static void require_fit(const Opt& opt, const record_reader& in) {
    for (const auto& [name, text] : requirements(opt)) {
      const std::string saved = in.text("configuration: " + name);
      if (saved != text)
        throw invalid_argument(message("resume(): the checkpoint has ", name, " '", saved, "', this run has '", text,
                                       "'; compose the optimizer as the saved one was"));
    }
  }

  /// Whether this run may take over the secrets. Root only. @throw state_error for a record older than the ledger.
  template <class Opt>
  static bool continues(const Opt& opt, const record_reader& in, const resume_options& how) {
    if constexpr (KeepsLedger<typename Opt::accountant_type>) {
      if (in.number<std::uint64_t>("ledger") == opt.accountant_.position()) return true;
      if (!how.resume_charged)
        throw state_error("resume(): the ledger holds releases made after this checkpoint, or another run went on from "
                          "it; use the latest checkpoint, or pass .resume_charged = true to go on with their cost and "
                          "fresh noise");
    }
    return false;
  }

  /// The record's events, for an accountant that keeps no ledger of its own.
  template <class Opt>
  static auto accountant_of(const Opt& opt, const record_reader& in) {
    auto out = opt.accountant_;
    if constexpr (RecallsEvents<typename Opt::accountant_type> && !KeepsLedger<typename Opt::accountant_type>) {
      std::vector<gaussian_event> events(in.bytes("events").size() / sizeof(gaussian_event));
      in.read("events", std::span(events));
      for (const auto& event : events) out.record(event);
    }
    return out;
  }

  template <class Opt>
  struct renewal { // share_secret() with a fresh incarnation
    Opt& opt;
    std::span<const std::byte> saved;
    void draw_secret() {
      if constexpr (requires { opt.noise_.renew_secret(); }) opt.noise_.renew_secret();
      else opt.noise_.draw_secret();
      if (std::ranges::equal(opt.noise_.secret(), saved)) // a user's seed, taken again
        throw randomness_error("resume(): the noise mechanism has the checkpoint's secret again and would repeat its "
                               "numbers; a mechanism with a seed needs renew_secret(), which makes another of it");
    }
    std::span<std::byte> secret() { return opt.noise_.secret(); }
  };

  template <class Opt, Companion... C>
  static resumed resume(Opt& opt, std::span<const std::byte> given, const resume_options& how, C&... companions) {
    using noise_type = typename Opt::noise_type;
    static_assert(SharesSecret<noise_type>,
                  "dpopt: this noise mechanism has no secret that a resumed run could renew, so it might repeat its "
                  "numbers; use counter_gaussian or secure_gaussian.");
    using accountant_type = typename Opt::accountant_type;
    static_assert(RecallsEvents<accountant_type> || std::is_empty_v<accountant_type>, // no state: nothing to forget
                  "dpopt: this accountant cannot tell what it was told, so a resumed run would forget what was spent; "
                  "give it history() (RecallsEvents in accounting/accountant.hpp) or use rdp_accountant.");
    static_assert(!LearningClipper<typename Opt::clipper_type> || RestorableClipper<typename Opt::clipper_type>,
                  "dpopt: this clipper learns but cannot tell what it learned, so a resumed run would start from its "
                  "first bounds; give it state() and restore() (RestorableClipper in clipping/clipper.hpp).");
    auto& ranks = ranks_of(opt);
    failure trouble;
    trouble.record([&] {
      require_between_steps(opt, "resume()");
      if (opt.steps_ != 0) throw state_error("resume(): this optimizer made steps already; resume a new one");
    });
    trouble.raise_together(ranks);

    std::vector<std::byte> bytes(given.begin(), given.end());
    share_values(ranks, bytes);

    std::byte bit_by_bit{0};
    std::optional<record_reader> in;
    std::optional<decltype(image_of(opt))> image;
    std::optional<typename Opt::accountant_type> accountant;
    std::vector<double> learned;
    bool run_charged = false;
    bool reproducible_sampling = false;
    std::optional<std::uint64_t> used_draw;
    trouble.record([&] { // everything that can fail, before anything changes
      in.emplace(bytes);
      require_fit(opt, *in);
      if (in->template number<std::uint64_t>("companions") != sizeof...(C))
        throw invalid_argument(message("resume(): the checkpoint was saved with ",
                                       in->template number<std::uint64_t>("companions"),
                                       " companions, such as a sampler; pass as many"));
      const auto fits = [&](const std::string& name, std::span<std::byte> here) {
        if (in->bytes(name).size() != here.size())
          throw invalid_argument(message("resume(): '", name, "' of the checkpoint has ", in->bytes(name).size(),
                                         " bytes, this run has ", here.size()));
      };
      visit_counters(opt, fits);
      image.emplace(image_of(opt));
      visit_values(opt, *image, fits);
      make_saved_slots(*image, *in);
      visit_slots(*image, [&](const std::string& name, std::span<std::byte> here) {
        if (!here.empty() && !in->bytes(name).empty()) fits(name, here);
      });
      visit_random_state(opt, fits, companions...);
      accountant.emplace(accountant_of(opt, *in));
      if constexpr (RestorableClipper<typename Opt::clipper_type>) {
        learned.resize(opt.clipper().state().size());
        in->read("clipper", std::span(learned));
        auto probe = opt.clipper();
        probe.restore(learned);
      }
      run_charged = in->template number<bool>("run charged");
      reproducible_sampling = in->template number<bool>("reproducible sampling");
      if (in->holds("sampler's draw")) used_draw = in->template number<std::uint64_t>("sampler's draw");
      if (ranks.rank() == 0) bit_by_bit = std::byte{continues(opt, *in, how) ? std::uint8_t{1} : std::uint8_t{0}};
    });
    trouble.raise_together(ranks);
    ranks.broadcast(&bit_by_bit, 1, 0);
    const bool same_run = bit_by_bit != std::byte{0};
    if constexpr (KeepsLedger<typename Opt::accountant_type>) {
      trouble.record([&] {
        if (same_run) accountant->resumed();
      });
      trouble.raise_together(ranks);
    }
    if (!same_run) {
      renewal<Opt> fresh{opt, in->bytes("random state 0")};
      share_secret(ranks, fresh);
    }

    const auto take = [&](const std::string& name, std::span<std::byte> out) { in->read(name, out); };
    visit_values(opt, *image, take);
    visit_slots(*image, [&](const std::string& name, std::span<std::byte> here) {
      if (!here.empty() && !in->bytes(name).empty()) take(name, here);
    });
    trouble.record([&] { image->store(); });
    try {
      trouble.raise_together(ranks);
    } catch (...) { // values are neither the old ones nor the record's, and nothing was charged for them
      if constexpr (on_device<Opt>) opt.broken_ = true;
      throw;
    }
    if constexpr (RestorableClipper<typename Opt::clipper_type>)
      opt.contributions_.clipper().restore(std::move(learned));
    visit_counters(opt, take);
    opt.accountant_ = std::move(*accountant);
    if (same_run) {
      visit_random_state(opt, take, companions...);
      opt.budget_.restore(run_charged);
    }
    opt.state_.restore(same_run ? used_draw : std::nullopt, reproducible_sampling);
    opt.failure_.record([&] { // a schedule without a value fails the next step, on all ranks, as ever
      opt.start_step();
      opt.fix_noise();
    });
    return same_run ? resumed::bit_by_bit : resumed::fresh_noise;
  }
};

/// The state between two steps. Local; with a ledger only the root's goes on bit by bit, since only the root reads it.
/// `companions` are what goes on together with the optimizer, such as a poisson_sampler. Write it with write_file() on
/// one rank. @throw state_error within a step.
template <class Opt, Companion... C>
[[nodiscard]] std::vector<std::byte> save(Opt& opt, C&... companions) {
  return checkpoint_access::save(opt, companions...);
}

/// COLLECTIVE, before the first step. The root's bytes count; other ranks may pass none. Companions as at save().
/// Parameters get the saved values. Nothing changes when it throws, except that noise may have a new secret. Where a
/// copy to a device failed, some of the values may be there: that optimizer refuses to go on; make a new one, and where
/// there is a ledger resume it with resume_charged.
/// @throw invalid_argument for a damaged record or one that does not fit, state_error for one older than the ledger,
///   randomness_error for noise that would repeat itself; rank_error on all ranks of several.
template <class Opt, Companion... C>
resumed resume(Opt& opt, std::span<const std::byte> bytes, const resume_options& how, C&... companions) {
  return checkpoint_access::resume(opt, bytes, how, companions...);
}
template <class Opt, Companion... C>
resumed resume(Opt& opt, std::span<const std::byte> bytes, C&... companions) {
  return checkpoint_access::resume(opt, bytes, {}, companions...);
}

} // namespace dpopt
