// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// One secret for all ranks: the root draws it, everyone gets a copy. It crosses the communicator, so ranks trust each
/// other and the wires between them.
#pragma once

#include "dpopt/communication/communicator.hpp"
#include "dpopt/communication/failure.hpp"
#include "dpopt/core/types.hpp"

#include <cstddef>
#include <span>

namespace dpopt {

/// Something with `draw_secret()` and `secret()`, a span of bytes as long on every rank. @see SharesSecret.
/// COLLECTIVE. @throw randomness_error (one rank) or rank_error (several) when the root got no entropy.
template <Communicator C, class Holder>
void share_secret(C& communicator, Holder& holder) {
  failure root_failure;
  root_failure.record([&] {
    if (communicator.rank() == 0) holder.draw_secret();
  });
  root_failure.raise_together(communicator);
  const std::span<std::byte> secret = holder.secret();
  communicator.broadcast(secret.data(), static_cast<isize>(secret.size()), 0);
}

} // namespace dpopt
