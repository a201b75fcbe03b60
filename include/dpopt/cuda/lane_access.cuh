// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Several neighbouring elements a thread: one load or store of up to 16 bytes where they are whole and aligned, single
/// ones at the ends of a range and for unaligned tensors. Both ways move the same numbers.
#pragma once

#include "dpopt/core/platform.hpp"
#include "dpopt/core/types.hpp"
#include "dpopt/cuda/dialect.cuh"

#include <cstdint>

namespace dpopt::cuda {

/// N numbers that move at once.
template <class T, int N>
struct alignas(sizeof(T) * N) pack {
  T number[N];
};

/// Whether x may be read and written as a pack.
template <int N, class T>
[[nodiscard]] DPOPT_DEVICE inline bool is_pack_aligned(const T* x) {
  return reinterpret_cast<std::uintptr_t>(x) % sizeof(pack<T, N>) == 0;
}

/// The executor refuses an unaligned pack, as a GPU would with "misaligned address".
template <int N, class T>
DPOPT_DEVICE inline void check_pack([[maybe_unused]] const T* x) {
#if defined(DPOPT_SIMT_EXECUTOR)
  ::simt::require_aligned(x, sizeof(pack<T, N>));
#endif
}

/// The elements [at + from, at + to) of a tensor out of the N that start at `at`; `at` is below 0 when the range starts
/// behind the first of them.
struct lane_part {
  isize at;
  int from;
  int to;
};

/// Those of the N elements from `at` that lie in [first, end).
template <int N>
[[nodiscard]] DPOPT_DEVICE constexpr lane_part part_within(isize at, isize first, isize end) {
  const isize from = first - at;
  const isize to = end - at;
  return {at, from <= 0 ? 0 : from < N ? static_cast<int>(from) : N, to <= 0 ? 0 : to < N ? static_cast<int>(to) : N};
}

/// out[j] = x[at + j] for the part, V{} for the rest.
template <int N, class T>
DPOPT_DEVICE inline void load_part(const T* x, const lane_part& p, T (&out)[N]) {
  if (p.from == 0 && p.to == N && is_pack_aligned<N>(x + p.at)) {
    check_pack<N>(x + p.at);
    const pack<T, N> whole = *reinterpret_cast<const pack<T, N>*>(x + p.at);
    for (int j = 0; j < N; ++j) out[j] = whole.number[j];
    return;
  }
  for (int j = 0; j < N; ++j) out[j] = j >= p.from && j < p.to ? x[p.at + j] : T{};
}

/// x[at + j] = in[j] for the part.
template <int N, class T>
DPOPT_DEVICE inline void store_part(T* x, const lane_part& p, const T (&in)[N]) {
  if (p.from == 0 && p.to == N && is_pack_aligned<N>(x + p.at)) {
    check_pack<N>(x + p.at);
    pack<T, N> whole;
    for (int j = 0; j < N; ++j) whole.number[j] = in[j];
    *reinterpret_cast<pack<T, N>*>(x + p.at) = whole;
    return;
  }
  for (int j = 0; j < N; ++j)
    if (j >= p.from && j < p.to) x[p.at + j] = in[j];
}

} // namespace dpopt::cuda
