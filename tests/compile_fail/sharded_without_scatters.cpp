// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// A communicator that can only sum gives every rank the whole sum.
// error: dpopt: placement sharded needs a communicator that scatters sums and gathers parts (Scatters in communication/communicator.hpp); use placement replicated.
#include "dpopt/dp_optimizer/dp_optimizer.hpp"

struct plain_sums : private dpopt::serial {
  using role = dpopt::roles::communicator;
  using serial::broadcast, serial::rank, serial::request, serial::size, serial::start_sum, serial::wait;
};
#ifdef DPOPT_CORRECTED
using placement = dpopt::replicated;
#else
using placement = dpopt::sharded;
#endif
static_assert(sizeof(dpopt::dp_optimizer<double, plain_sums, placement>) > 0);
