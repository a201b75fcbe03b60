// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// A child made by fork() has its parent's secrets and counters: it would draw the noise of its parent for other data,
/// and the difference of two releases would be exact.
#pragma once

#include "dpopt/core/error.hpp"
#include "dpopt/core/platform.hpp"

#include <string_view>

namespace dpopt {

/// The process in which this was constructed; copies remember the same one.
class own_process {
public:
  /// One call of the system. @param what has the secret. @throw state_error in a process that was forked since.
  void require(std::string_view what) const {
    if (id_ != process_id())
      throw state_error(message(what,
                                " is used in a process that was forked after it was constructed, and would repeat "
                                "the random numbers of the parent; construct it after fork()"));
  }

private:
  long id_ = process_id();
};

} // namespace dpopt
