// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// An optimizer's configuration in words: what describe() shows, what ranks compare, and how epsilon is stated. Holds
/// no secret: of a seed only a keyed digest, and that only for the comparison between ranks.
#pragma once

#include "dpopt/communication/agreement.hpp"
#include "dpopt/core/error.hpp"
#include "dpopt/noise/keyed_digest.hpp"
#include "dpopt/noise/noise_mechanism.hpp"
#include "dpopt/optimizers/base_optimizer.hpp"
#include "dpopt/parameters/fingerprint.hpp"

#include <concepts>
#include <cstdint>
#include <iomanip>
#include <sstream>
#include <string>
#include <string_view>
#include <typeinfo>
#include <utility>
#include <vector>

namespace dpopt::detail {

/// (name, value) pairs. Names live for ever.
using configuration_texts = std::vector<std::pair<std::string_view, std::string>>;

template <class P>
concept Describes = requires(const P policy) {
  { policy.describe() } -> std::convertible_to<std::string>;
};

/// A policy in its own words, or the name of its type.
template <class P>
[[nodiscard]] std::string policy_text(const P& policy) {
  if constexpr (Describes<P>) return policy.describe();
  else return typeid(P).name();
}

/// What ranks compare of a base optimizer in each step: its options or, where it does not show them, its words. The
/// latter may need memory.
template <class P>
[[nodiscard]] std::uint64_t policy_digest(const P& policy) {
  fingerprint digest;
  if constexpr (ShowsOptions<P>)
    policy.visit_options([&](std::string_view option, auto value) { digest.add(option).add(value); });
  else if constexpr (Describes<P>) digest.add(std::string(policy.describe()));
  else digest.add(std::string_view(typeid(P).name()));
  return digest.value();
}

/// Whether the user gave the seed, so that the noise can be predicted.
template <class N>
[[nodiscard]] bool is_reproducible(const N& noise) {
  if constexpr (requires { noise.reproducible(); }) return noise.reproducible();
  else return false;
}

template <class N>
[[nodiscard]] std::string noise_text(const N& noise) {
  return message("multiplier ", noise.multiplier(), is_reproducible(noise) ? ", user's seed" : "", ", ",
                 policy_text(noise));
}

/// Names and sizes of parameters, in their order.
template <class Parameters>
[[nodiscard]] std::string shapes_text(const Parameters& parameters) {
  std::string shapes;
  for (const auto& p : parameters) shapes += message(shapes.empty() ? "" : ", ", p.name, "[", p.size(), "]");
  return shapes;
}

/// A line a pair.
[[nodiscard]] inline std::string lines_of(const configuration_texts& texts) {
  std::string out;
  for (const auto& [name, text] : texts) out += message(name, ": ", text, "\n");
  return out;
}

/// What ranks compare of the texts and of a seed that the user gave, which must be the same on all ranks.
template <class N>
[[nodiscard]] std::vector<fingerprint_field> fields_of(const configuration_texts& texts, N& noise) {
  std::vector<fingerprint_field> out;
  for (const auto& [name, text] : texts) out.push_back({name, fingerprint().add(text).value()});
  fingerprint seed;
  if constexpr (SharesSecret<N>) {
    seed.add(is_reproducible(noise) ? 1 : 0);
    if (is_reproducible(noise)) {
      noise.draw_secret(); // takes the user's seed
      seed.add(keyed_digest(noise.secret()));
    }
  }
  out.push_back({"generator seed", seed.value()});
  return out;
}

/// The sentence to print, which flags a reproducible run. Four digits: epsilon is an upper bound, not a measurement.
[[nodiscard]] inline std::string privacy_text(double epsilon, double delta, bool reproducible) {
  std::ostringstream out;
  out << std::setprecision(4) << "epsilon " << epsilon << " at delta " << delta;
  if (reproducible) out << " (reproducible run: not a private release)";
  return out.str();
}

} // namespace dpopt::detail
