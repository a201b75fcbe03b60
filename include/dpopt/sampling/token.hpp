// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// What a sampler hands to begin(), so that the accountant can only claim the amplification that really happened.
#pragma once

#include <cstdint>

namespace dpopt {

enum class sampling_scheme : std::uint8_t {
  none,    ///< unknown or every record: no amplification is claimed
  poisson, ///< each record independently with probability `rate`
};

/// Proof of sampling for one logical batch. The default claims nothing (rate 1). `draw` counts the sampler's batches:
/// parts of one logical batch carry the same number, and a number serves one step only.
struct sampling_token {
  sampling_scheme scheme = sampling_scheme::none;
  double rate = 1;
  std::uint64_t draw = 0;
  bool reproducible = false; ///< the user's own seed decided who is sampled
};

} // namespace dpopt
