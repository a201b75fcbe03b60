// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// A policy that is named but cannot be made up must be passed.
// error: dpopt: a policy that has no default (such as a communicator over MPI) was not passed.
#include "dpopt/communication/threads.hpp"
#include "dpopt/dp_optimizer/roles.hpp"

void take(dpopt::threads& comm) {
#ifdef DPOPT_CORRECTED
  std::tuple<dpopt::threads> given(std::move(comm));
#else
  static_cast<void>(comm);
  std::tuple<> given;
#endif
  static_cast<void>(dpopt::take_policy<dpopt::threads>(given));
}
