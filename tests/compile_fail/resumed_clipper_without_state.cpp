// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
// Bounds that were learned would be lost, though the run says that it goes on bit by bit.
// error: dpopt: this clipper learns but cannot tell what it learned, so a resumed run would start from its first bounds; give it state() and restore() (RestorableClipper in clipping/clipper.hpp).
#include "dpopt/checkpoint/checkpoint.hpp"
#include "dpopt/clipping/adaptive.hpp"

#include <cstddef>
#include <vector>

struct forgetful : dpopt::adaptive<dpopt::flat> {
#ifndef DPOPT_CORRECTED
  void restore() = delete; // hides the inherited one
#endif
};

using optimizer = dpopt::dp_optimizer<double, forgetful>;
void go_on(optimizer& opt, const std::vector<std::byte>& record) { dpopt::resume(opt, record); }
