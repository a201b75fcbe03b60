// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Runs a loop as compiled for the best vector instructions of the machine.
///
///     vectorized([=]() DPOPT_FORCE_INLINE_LAMBDA { loop(x, n); }); // loop() is DPOPT_FORCE_INLINE
///     vectorized([=](auto width) DPOPT_FORCE_INLINE_LAMBDA { loop(width, x, n); }); // told its vector_bytes
///
/// The bits are the same at every level as long as a turn of the loop does not depend on another and nothing is fused:
/// GCC sees to the latter here, for Clang loop() has a DPOPT_NO_CONTRACT_BLOCK.
///
/// Why no ifunc or target_clones: sanitizers and static constructors would meet them before they are resolved.
#pragma once

#include "dpopt/core/platform.hpp"
#include "dpopt/core/vector_operations.hpp"

#include <cstddef>
#include <type_traits>

namespace dpopt {

namespace detail {

template <std::size_t Bytes, class F>
DPOPT_FORCE_INLINE inline void call(const F& f) {
  if constexpr (std::is_invocable_v<const F&, vector_bytes<Bytes>>) f(vector_bytes<Bytes>{});
  else f();
}

template <class F>
DPOPT_HOT void call_plain(const F& f) {
  call<16>(f);
}

template <class F>
DPOPT_TARGET_AVX2 DPOPT_HOT void call_avx2(const F& f) {
  call<32>(f);
}

template <class F>
DPOPT_TARGET_AVX512 DPOPT_HOT void call_avx512(const F& f) {
  call<64>(f);
}

} // namespace detail

/// f() as compiled for a level, which runs_here().
template <class F>
void at_vector_level(vector_level level, const F& f) {
  if (level == vector_level::avx512) detail::call_avx512(f);
  else if (level == vector_level::avx2) detail::call_avx2(f);
  else detail::call_plain(f);
}

/// f() at the best level.
template <class F>
void vectorized(const F& f) {
  at_vector_level(best_vector_level(), f);
}

} // namespace dpopt
