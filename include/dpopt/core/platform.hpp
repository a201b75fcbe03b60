// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The place where compilers differ; what they lack in vector operations is in core/vector_operations.hpp.
///
/// Noise must have the same bits on every rank, also when ranks were built by other compilers or at other -O levels.
/// IEEE arithmetic gives that as long as no compiler fuses a * b + c into one rounding. GCC takes that wish per
/// function (an attribute), Clang per block (a pragma), so a function that needs it writes both:
///
///     DPOPT_NO_CONTRACT inline double f(double a, double b) {
///       DPOPT_NO_CONTRACT_BLOCK
///       ...
///
/// Neither holds against Clang's -ffp-contract=fast or the flags of -ffast-math: build every rank with the same flags
/// then. -ffinite-math-only is refused: with it a sample that is NaN is clipped by a factor that is anything.
///
/// Hot loops are compiled once for each vector_level and chosen when they run (core/vector_dispatch.hpp), so that a
/// program built for any x86-64 uses what its machine has. Everything such a loop calls is marked DPOPT_FORCE_INLINE,
/// or it would be compiled for the lowest level. In GCC a function so marked is compiled as its caller is: a caller of
/// one that computes is DPOPT_NO_CONTRACT itself. DPOPT_HOT is that at -O3: at the -O2 of most builds g++ 12 is a fifth
/// slower.
///
/// Where processes can fork, process_id() tells a child from its parent; system_random() is the operating system's
/// generator where it has one that reports failures.
#pragma once

#if defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__ > 0
#error                                                                                                                 \
    "dpopt: -ffinite-math-only (also of -ffast-math) removes the tests that drop samples which are not finite; add -fno-finite-math-only"
#endif
#if __has_include(<unistd.h>)
#include <unistd.h>
#endif
#if __has_include(<sys/random.h>)
#include <sys/random.h>
#endif
#include <cerrno>
#include <cstddef>

#if defined(__clang__)
#define DPOPT_NO_CONTRACT
#define DPOPT_HOT
#define DPOPT_NO_CONTRACT_BLOCK _Pragma("clang fp contract(off)")
#define DPOPT_TURN_BY_TURN _Pragma("clang loop vectorize(disable)") // before a loop whose turns are vectors already
#elif defined(__GNUC__)
#define DPOPT_NO_CONTRACT [[gnu::optimize("fp-contract=off")]]
#define DPOPT_HOT [[gnu::optimize("O3", "fp-contract=off")]]
#define DPOPT_NO_CONTRACT_BLOCK
#define DPOPT_TURN_BY_TURN
#else
#define DPOPT_NO_CONTRACT
#define DPOPT_HOT
#define DPOPT_NO_CONTRACT_BLOCK
#define DPOPT_TURN_BY_TURN
#endif

#if defined(__GNUC__)
#define DPOPT_FORCE_INLINE [[gnu::always_inline]]
#define DPOPT_FORCE_INLINE_LAMBDA __attribute__((always_inline)) // behind the parameter list
#else
#define DPOPT_FORCE_INLINE
#define DPOPT_FORCE_INLINE_LAMBDA
#endif

#if defined(__GNUC__) && !defined(__CUDACC__) // nvcc warns about the pragma
#define DPOPT_UNROLL _Pragma("GCC unroll 16") // before a loop of at most 16 turns
#else
#define DPOPT_UNROLL
#endif

// Functions that kernels call too. Whoever compiles kernels with nvcc keeps products apart from sums: --fmad=false.
#if defined(__CUDACC__)
#define DPOPT_DEVICE __host__ __device__
#else
#define DPOPT_DEVICE
#endif

#if defined(__x86_64__) && defined(__clang__)
#define DPOPT_TARGET_AVX2 [[gnu::target("avx2")]]
#define DPOPT_TARGET_AVX512 [[gnu::target("avx512f,avx512vl,avx512dq,avx512bw")]]
#elif defined(__x86_64__) && defined(__GNUC__)
#define DPOPT_TARGET_AVX2 [[gnu::target("avx2")]]
#define DPOPT_TARGET_AVX512 [[gnu::target("avx512f,avx512vl,avx512dq,avx512bw,prefer-vector-width=512")]]
#else
#define DPOPT_TARGET_AVX2
#define DPOPT_TARGET_AVX512
#endif

#if defined(_OPENMP)
#define DPOPT_PARALLEL_FOR _Pragma("omp parallel for schedule(static)")
#else
#define DPOPT_PARALLEL_FOR
#endif

namespace dpopt {

/// Whether DPOPT_PARALLEL_FOR makes threads.
#if defined(_OPENMP)
inline constexpr bool runs_openmp = true;
#else
inline constexpr bool runs_openmp = false;
#endif

/// Sets of vector instructions that hot loops are compiled for; `plain` is what the compiler was told.
enum class vector_level { plain, avx2, avx512 };

/// Whether this machine can run code of a level.
[[nodiscard]] inline bool runs_here([[maybe_unused]] vector_level level) noexcept {
#if defined(__x86_64__) && defined(__GNUC__)
  if (level == vector_level::avx2) return __builtin_cpu_supports("avx2") != 0;
  if (level == vector_level::avx512)
    return __builtin_cpu_supports("avx512f") != 0 && __builtin_cpu_supports("avx512vl") != 0 &&
           __builtin_cpu_supports("avx512dq") != 0 && __builtin_cpu_supports("avx512bw") != 0;
#endif
  return level == vector_level::plain;
}

/// The best level that runs here. A few loads and tests.
[[nodiscard]] inline vector_level best_vector_level() noexcept {
  if (runs_here(vector_level::avx512)) return vector_level::avx512;
  return runs_here(vector_level::avx2) ? vector_level::avx2 : vector_level::plain;
}

/// Number of the calling process; 0 on systems without fork(), where no two processes share memory by surprise.
[[nodiscard]] inline long process_id() noexcept {
#if __has_include(<unistd.h>)
  return static_cast<long>(::getpid());
#else
  return 0;
#endif
}

/// Fills out[0, n), n <= 256, from the operating system's generator; waits until that is seeded. 0, or the errno of
/// what went wrong; ENOSYS also where this library knows no such generator.
[[nodiscard]] inline int system_random([[maybe_unused]] void* out, [[maybe_unused]] std::size_t n) noexcept {
#if __has_include(<unistd.h>) && __has_include(<sys/random.h>)
  return ::getentropy(out, n) == 0 ? 0 : errno;
#else
  return ENOSYS;
#endif
}

} // namespace dpopt
