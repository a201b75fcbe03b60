// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Vector operations that compilers do not find in a loop, for what at_vector_level() calls with a width. Beside
/// core/platform.hpp and core/square_sums.hpp the only header in which compilers and processors differ; the results
/// never do.
#pragma once

#include "dpopt/core/platform.hpp"

#include <cmath>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <utility>

#if defined(__x86_64__) && defined(__GNUC__) && !defined(__CUDACC__)
#define DPOPT_X86_VECTORS
#endif

namespace dpopt {

/// Width of the vectors that a function is compiled for.
template <std::size_t Bytes>
struct vector_bytes {
  static constexpr std::size_t value = Bytes;
};

/// x[i] becomes its correctly rounded square root. Why not a loop around std::sqrt: it may set errno, which keeps
/// compilers from vectorising it, and GCC takes no wish for less but on the command line.
template <std::floating_point T, std::size_t Bytes>
void square_roots(T* x, std::ptrdiff_t n, vector_bytes<Bytes> /*width*/) noexcept {
  for (std::ptrdiff_t i = 0; i < n; ++i) x[i] = std::sqrt(x[i]);
}

#if defined(DPOPT_X86_VECTORS)

namespace detail {
template <class T, std::size_t Bytes>
struct vector_of {
  using type [[gnu::vector_size(Bytes)]] = T;
};

template <class T>
concept packed_real = std::floating_point<T> && (std::same_as<T, float> || std::same_as<T, double>);
} // namespace detail

#if defined(__clang__) // takes an instruction only in a function that names its level, and inlines that
template <detail::packed_real T>
void square_roots(T* x, std::ptrdiff_t n, vector_bytes<16> /*width*/) noexcept {
  constexpr std::ptrdiff_t lanes = 16 / sizeof(T);
  std::ptrdiff_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    typename detail::vector_of<T, 16>::type part;
    std::memcpy(&part, x + i, 16);
    if constexpr (std::same_as<T, float>) part = __builtin_ia32_sqrtps(part);
    else part = __builtin_ia32_sqrtpd(part);
    std::memcpy(x + i, &part, 16);
  }
  for (; i < n; ++i) x[i] = std::sqrt(x[i]);
}

template <detail::packed_real T>
DPOPT_TARGET_AVX2 void square_roots(T* x, std::ptrdiff_t n, vector_bytes<32> /*width*/) noexcept {
  constexpr std::ptrdiff_t lanes = 32 / sizeof(T);
  std::ptrdiff_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    typename detail::vector_of<T, 32>::type part;
    std::memcpy(&part, x + i, 32);
    if constexpr (std::same_as<T, float>) part = __builtin_ia32_sqrtps256(part);
    else part = __builtin_ia32_sqrtpd256(part);
    std::memcpy(x + i, &part, 32);
  }
  for (; i < n; ++i) x[i] = std::sqrt(x[i]);
}

template <detail::packed_real T>
DPOPT_TARGET_AVX512 void square_roots(T* x, std::ptrdiff_t n, vector_bytes<64> /*width*/) noexcept {
  constexpr std::ptrdiff_t lanes = 64 / sizeof(T);
  std::ptrdiff_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    typename detail::vector_of<T, 64>::type part;
    std::memcpy(&part, x + i, 64);
    if constexpr (std::same_as<T, float>) part = __builtin_ia32_sqrtps512(part, 4); // 4: rounded as usual
    else part = __builtin_ia32_sqrtpd512(part, 4);
    std::memcpy(x + i, &part, 64);
  }
  for (; i < n; ++i) x[i] = std::sqrt(x[i]);
}
#else // knows an instruction once a function of its level was declared, and wants it where all is inlined
namespace detail {
DPOPT_TARGET_AVX2 void level_avx2();
DPOPT_TARGET_AVX512 void level_avx512();
} // namespace detail

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpsabi" // nothing is passed by value: all of it is inlined
template <detail::packed_real T, std::size_t Bytes>
DPOPT_FORCE_INLINE inline void square_roots(T* x, std::ptrdiff_t n, vector_bytes<Bytes> /*width*/) noexcept {
  constexpr auto lanes = static_cast<std::ptrdiff_t>(Bytes / sizeof(T));
  std::ptrdiff_t i = 0;
  for (; i + lanes <= n; i += lanes) {
    typename detail::vector_of<T, Bytes>::type part;
    std::memcpy(&part, x + i, Bytes);
    if constexpr (std::same_as<T, float>) {
      if constexpr (Bytes == 16) part = __builtin_ia32_sqrtps(part);
      else if constexpr (Bytes == 32) part = __builtin_ia32_sqrtps256(part);
      else part = __builtin_ia32_sqrtps512_mask(part, part, static_cast<short>(-1), 4); // 4: rounded as usual
    } else {
      if constexpr (Bytes == 16) part = __builtin_ia32_sqrtpd(part);
      else if constexpr (Bytes == 32) part = __builtin_ia32_sqrtpd256(part);
      else part = __builtin_ia32_sqrtpd512_mask(part, part, static_cast<char>(-1), 4);
    }
    std::memcpy(x + i, &part, Bytes);
  }
  for (; i < n; ++i) x[i] = std::sqrt(x[i]);
}
#pragma GCC diagnostic pop
#endif

/// Numbers in one register, with operators and []. Pass them by reference only: by value they have another place in
/// functions of another level.
template <class T, std::size_t Bytes>
using wide = typename detail::vector_of<T, Bytes>::type;

template <std::size_t Bytes>
using wide_words = wide<std::uint64_t, Bytes>;

/// out = low half of a x low half of b, word by word: one instruction, which GCC 12 does not find by itself.
template <std::size_t Bytes>
DPOPT_FORCE_INLINE inline void low_products(const wide_words<Bytes>& a, const wide_words<Bytes>& b,
                                            wide_words<Bytes>& out) noexcept {
#if defined(__clang__)
  out = (a & 0xFFFFFFFFu) * (b & 0xFFFFFFFFu);
#else
  using halves = typename detail::vector_of<int, Bytes>::type;
  using words = typename detail::vector_of<long long, Bytes>::type;
  const halves x = reinterpret_cast<halves>(a);
  const halves y = reinterpret_cast<halves>(b);
  words product;
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wpsabi" // as above
  if constexpr (Bytes == 16) product = __builtin_ia32_pmuludq128(x, y);
  else if constexpr (Bytes == 32) product = __builtin_ia32_pmuludq256(x, y);
  else product = __builtin_ia32_pmuludq512_mask(x, y, words{}, static_cast<unsigned char>(0xFF));
#pragma GCC diagnostic pop
  out = reinterpret_cast<wide_words<Bytes>>(product);
#endif
}

/// Half of a and half of b: their words of even number, or of odd number. Those of a take even places, those of b odd
/// ones.
template <bool Odd, std::size_t Bytes>
DPOPT_FORCE_INLINE inline void interleave(const wide<std::uint32_t, Bytes>& a, const wide<std::uint32_t, Bytes>& b,
                                          wide<std::uint32_t, Bytes>& out) noexcept {
  constexpr std::size_t lanes = Bytes / sizeof(std::uint32_t);
  [&]<std::size_t... I>(std::index_sequence<I...> /*places*/) DPOPT_FORCE_INLINE_LAMBDA {
    out = __builtin_shufflevector(a, b, (I % 2 == 0 ? I + Odd : lanes + I - 1 + Odd)...);
  }(std::make_index_sequence<lanes>{});
}

/// Words as numbers with sign, rounded to float. R is a vector of floats, W the words_of it.
template <class W, class R>
DPOPT_FORCE_INLINE inline void signed_to_float(const W& words, R& out) noexcept {
  wide<std::int32_t, sizeof(R)> numbers;
  std::memcpy(&numbers, &words, sizeof(R));
  out = __builtin_convertvector(numbers, R);
}

inline constexpr bool has_wide_words = true;
#else
template <class T, std::size_t Bytes>
struct wide; // a name for code that is parsed and never compiled

template <std::size_t Bytes>
using wide_words = wide<std::uint64_t, Bytes>;

inline constexpr bool has_wide_words = false;
#endif

namespace detail {
template <class R>
struct same_size_words {
  using type = wide<std::uint32_t, sizeof(R)>;
};
template <>
struct same_size_words<float> {
  using type = std::uint32_t;
};
} // namespace detail

/// What the bits of R are, which is float or a vector of them.
template <class R>
using words_of = typename detail::same_size_words<R>::type;

/// `to` gets the bits of `from`. Why not std::bit_cast: it passes vectors by value.
template <class A, class B>
DPOPT_FORCE_INLINE DPOPT_DEVICE inline void copy_bits(const A& from, B& to) noexcept {
  static_assert(sizeof(A) == sizeof(B));
  std::memcpy(&to, &from, sizeof(A));
}

/// A word as a number with sign, rounded to float; above, of vectors.
DPOPT_FORCE_INLINE DPOPT_DEVICE inline void signed_to_float(const std::uint32_t& word, float& out) noexcept {
  out = static_cast<float>(static_cast<std::int32_t>(word));
}

#undef DPOPT_X86_VECTORS

} // namespace dpopt
