// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The Accountant role: adds up what the releases cost. Satisfied by rdp_accountant (default) and no_accountant.
///
/// Contract: record() is told BEFORE a release, once a step (step(), pre_step() or add_noise(), never a skipped one nor
/// a physical part of a batch); what was recorded is never taken back, also when the step fails afterwards. An
/// accountant that has no proof for an event's kind of noise reports infinity for it. Correlated noise is one event for
/// all releases of its run, without sampling: it is told at the first of them.
#pragma once

#include "dpopt/core/error.hpp"
#include "dpopt/core/types.hpp"

#include <cmath>
#include <concepts>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

namespace dpopt {

/// One or more equal releases of the Gaussian mechanism, or of a kin, on a Poisson-sampled batch.
struct gaussian_event {
  double noise_multiplier = 0;                      ///< std of the noise over the sensitivity
  double sampling_rate = 1;                         ///< Poisson rate in (0, 1]; 1 is "no amplification"
  std::uint64_t count = 1;                          ///< how many such releases
  neighbouring relation = neighbouring::add_remove; ///< what the multiplier is relative to
  noise_kind kind = noise_kind::gaussian;           ///< the law of the noise

  /// @throw invalid_argument naming the field outside its range, such as a relation or kind that a later version wrote.
  ///   Noise multiplier 0 is allowed and means no privacy.
  void validate() const {
    if (!(noise_multiplier >= 0 && std::isfinite(noise_multiplier))) {
      throw invalid_argument(message("noise_multiplier is ", noise_multiplier, "; use a finite number, 0 or more"));
    }
    if (!(sampling_rate > 0 && sampling_rate <= 1)) {
      throw invalid_argument(message("sampling_rate is ", sampling_rate, "; use a number in (0, 1]"));
    }
    if (count == 0) throw invalid_argument("count is 0; an event stands for one release or more");
    if (relation != neighbouring::add_remove && relation != neighbouring::replace_one &&
        relation != neighbouring::zero_out)
      throw invalid_argument(message("relation ", static_cast<int>(relation), " is unknown to this library"));
    if (kind != noise_kind::gaussian && kind != noise_kind::discrete_gaussian)
      throw invalid_argument(message("noise of kind ", static_cast<int>(kind), " is unknown to this library"));
  }
};

template <class A>
concept Accountant = std::movable<A> && requires(A a, const A k, const gaussian_event& e, double delta) {
  a.record(e); // strong guarantee: throws invalid_argument and records nothing on a bad event
  { k.epsilon(delta) } -> std::same_as<double>; // upper bound; infinity when a release had no noise; 0 when empty
};

/// An accountant that can tell everything it was told, so that another one can go on from it.
template <class A>
concept RecallsEvents = Accountant<A> && requires(const A k) {
  { k.history() } -> std::convertible_to<std::span<const gaussian_event>>;
};

/// An accountant that writes each event to stable storage before it returns. The optimizer opens it on the root alone,
/// once, and hands what was found there to every rank.
template <class A>
concept KeepsLedger = RecallsEvents<A> && requires(A a, const A k, std::span<const gaussian_event> past) {
  { a.open() } -> std::same_as<std::vector<gaussian_event>>;      // root only; throws when the ledger cannot be used
  a.adopt(past);                                                  // every rank: counts them, writes nothing
  { k.position() } -> std::same_as<std::optional<std::uint64_t>>; // on the root; moves with every line, never back
  a.resumed();                                                    // writes that a run goes on from this position
};

} // namespace dpopt
