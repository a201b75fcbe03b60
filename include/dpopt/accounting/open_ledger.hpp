// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// What a ledger says was spent before this run, for every rank's accountant.
#pragma once

#include "dpopt/accounting/accountant.hpp"
#include "dpopt/communication/failure.hpp"
#include "dpopt/communication/shared_values.hpp"

#include <vector>

namespace dpopt {

/// COLLECTIVE. The root's ledger is opened, and every rank's accountant goes on from what it holds. Until then nothing
/// is written to it. @throw state_error (one rank) or rank_error on all ranks when it is in use, damaged, or cannot be
/// written.
template <Communicator C, KeepsLedger A>
void open_ledger(C& communicator, A& accountant) {
  failure problem;
  std::vector<gaussian_event> past;
  problem.record([&] {
    if (communicator.rank() == 0) past = accountant.open();
  });
  problem.raise_together(communicator);
  share_values(communicator, past);
  problem.record([&] { accountant.adopt(past); });
  problem.raise_together(communicator);
}

} // namespace dpopt
