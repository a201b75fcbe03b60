// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Independent pieces of work on several threads, where the program is compiled with OpenMP; otherwise in a loop.
///
/// OpenMP is a flag of the user's program (-fopenmp in all of its files, OMP_NUM_THREADS when it runs), never a
/// requirement. What is split here is a pure function of its number, so the bits do not depend on the thread count.
#pragma once

#include "dpopt/core/platform.hpp"
#include "dpopt/core/types.hpp"

#include <atomic>
#include <exception>

namespace dpopt {

/// Fewer pieces are not worth waking threads for: a piece of the release takes about a microsecond, as waking does.
inline constexpr isize least_parallel_pieces = 16;

/// f(0), ..., f(count - 1), each once, in any order and perhaps at the same time. An exception of a piece is thrown
/// when all have ended (one of them, when there are several); pieces not begun by then may be left out.
template <class F>
void parallel_pieces(isize count, const F& f) {
  if (!runs_openmp || count < least_parallel_pieces) {
    for (isize k = 0; k < count; ++k) f(k);
    return;
  }
  std::atomic_flag failed = ATOMIC_FLAG_INIT;
  std::exception_ptr error;
  DPOPT_PARALLEL_FOR
  for (isize k = 0; k < count; ++k) {
    if (failed.test()) continue;
    try {
      f(k);
    } catch (...) { // may not leave the loop of a thread
      if (!failed.test_and_set()) error = std::current_exception();
    }
  }
  if (error) std::rethrow_exception(error);
}

} // namespace dpopt
