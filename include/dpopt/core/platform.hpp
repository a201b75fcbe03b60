// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The only place where compilers differ.
///
/// Noise must have the same bits on every rank, also when ranks were built by other compilers or at other -O levels.
/// IEEE arithmetic gives that as long as no compiler fuses a * b + c into one rounding. GCC takes that wish per
/// function (an attribute), Clang per block (a pragma), so a function that needs it writes both:
///
///     DPOPT_NO_CONTRACT inline double f(double a, double b) {
///       DPOPT_NO_CONTRACT_BLOCK
///       ...
///
/// Neither holds against -ffast-math or Clang's -ffp-contract=fast: build every rank with the same flags then.
///
/// Where processes can fork, process_id() tells a child from its parent.
#pragma once

#if __has_include(<unistd.h>)
#include <unistd.h>
#endif

#if defined(__clang__)
#define DPOPT_NO_CONTRACT
#define DPOPT_NO_CONTRACT_BLOCK _Pragma("clang fp contract(off)")
#elif defined(__GNUC__)
#define DPOPT_NO_CONTRACT [[gnu::optimize("fp-contract=off")]]
#define DPOPT_NO_CONTRACT_BLOCK
#else
#define DPOPT_NO_CONTRACT
#define DPOPT_NO_CONTRACT_BLOCK
#endif

namespace dpopt {

/// Number of the calling process; 0 on systems without fork(), where no two processes share memory by surprise.
[[nodiscard]] inline long process_id() noexcept {
#if __has_include(<unistd.h>)
  return static_cast<long>(::getpid());
#else
  return 0;
#endif
}

} // namespace dpopt
