// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Barriers, warp operations and atomics under their CUDA names. A barrier orders memory; __syncwarp does so among the
/// lanes of its mask; shuffles and votes move values and order nothing, as in CUDA's memory model.
#pragma once

#include "support/simt/blocks.hpp"

#include <atomic>
#include <bit>
#include <cstring>
#include <type_traits>

namespace simt {

enum operation { shuffle_index, shuffle_down, shuffle_up, shuffle_xor, vote, warp_barrier };

namespace detail {

/// Waits for all lanes of the mask. What each offered can then be read with seen_of.
DPOPT_SIMT_UNSEEN inline void exchange(std::uint32_t mask, std::uint64_t offered, int operation, place where) {
  fiber& f = *running->current;
  f.where = where;
  f.mask = mask;
  if ((mask >> f.number % 32 & 1u) == 0) give_up("the calling lane is not in its own mask", where);
  f.offered = offered;
  wait(state::at_warp_operation, where, mask, operation);
}

DPOPT_SIMT_UNSEEN inline std::uint64_t seen_of(unsigned lane) {
  return running->fibers[running->current->number / 32 * 32 + lane].seen;
}

DPOPT_SIMT_UNSEEN inline unsigned shuffle_source(operation how, int argument, int width, unsigned mask, place where) {
  const int lane = static_cast<int>(running->current->number % 32);
  if (width < 1 || width > 32 || (width & (width - 1)) != 0) give_up("the width of a shuffle is a power of 2", where);
  const int base = lane / width * width;
  int source = lane;
  if (how == shuffle_index) source = base + ((argument % width) + width) % width;
  else if (how == shuffle_down) source = lane - base + argument < width ? lane + argument : lane;
  else if (how == shuffle_up) source = lane - base - argument >= 0 ? lane - argument : lane;
  else source = (lane ^ argument) < base + width ? lane ^ argument : lane;
  if ((mask >> source & 1u) == 0) give_up("a shuffle reads a lane that is not in the mask", where);
  return static_cast<unsigned>(source);
}

template <class T>
T shuffled(std::uint32_t mask, T value, operation how, int argument, int width, place where) {
  static_assert(sizeof(T) <= 8 && std::is_trivially_copyable_v<T>);
  std::uint64_t bits = 0;
  std::memcpy(&bits, &value, sizeof value);
  exchange(mask, bits, static_cast<int>(how) * 64 + width, where);
  bits = seen_of(shuffle_source(how, argument, width, mask, where));
  std::memcpy(&value, &bits, sizeof value);
  return value;
}

DPOPT_SIMT_UNSEEN inline std::uint32_t voted(std::uint32_t mask, bool yes, place where) {
  exchange(mask, yes ? 1 : 0, static_cast<int>(vote) * 64, where);
  std::uint32_t all = 0;
  for (unsigned lane = 0; lane < 32; ++lane)
    if ((mask >> lane & 1u) != 0 && seen_of(lane) != 0) all |= 1u << lane;
  return all;
}

// Two edges a barrier and two a lane, in turn: with one, who comes to the next barrier first would seem to be ordered
// before who has only just left this one.
DPOPT_SIMT_UNSEEN inline void block_barrier(place where) {
  fiber& f = *running->current;
  std::uint64_t* const edge = running->edges + f.barriers_passed++ % 2;
  sanitizer::release(edge);
  wait(state::at_barrier, where, 0, 0);
  sanitizer::acquire(edge);
}

DPOPT_SIMT_UNSEEN inline std::uint64_t* edge_of(unsigned thread, unsigned arrival) {
  return running->edges + 2 + 2 * thread + arrival % 2;
}

DPOPT_SIMT_UNSEEN inline void sync_warp(std::uint32_t mask, place where) {
  fiber& f = *running->current;
  ++f.arrivals;
  sanitizer::release(edge_of(f.number, f.arrivals));
  exchange(mask, 0, static_cast<int>(warp_barrier) * 64, where);
  const unsigned first = f.number / 32 * 32;
  for (unsigned lane = 0; lane < 32; ++lane)
    if ((mask >> lane & 1u) != 0) sanitizer::acquire(edge_of(first + lane, running->fibers[first + lane].last_arrival));
}

} // namespace detail
} // namespace simt

inline void __syncthreads(simt::place at = simt::place::current()) { simt::detail::block_barrier(at); }
inline void __syncwarp(std::uint32_t mask = 0xFFFFFFFFu, simt::place at = simt::place::current()) {
  simt::detail::sync_warp(mask, at);
}

template <class T>
T __shfl_sync(std::uint32_t mask, T value, int lane, int width = 32, simt::place at = simt::place::current()) {
  return simt::detail::shuffled(mask, value, simt::shuffle_index, lane, width, at);
}
template <class T>
T __shfl_down_sync(std::uint32_t mask, T value, unsigned by, int width = 32, simt::place at = simt::place::current()) {
  return simt::detail::shuffled(mask, value, simt::shuffle_down, static_cast<int>(by), width, at);
}
template <class T>
T __shfl_up_sync(std::uint32_t mask, T value, unsigned by, int width = 32, simt::place at = simt::place::current()) {
  return simt::detail::shuffled(mask, value, simt::shuffle_up, static_cast<int>(by), width, at);
}
template <class T>
T __shfl_xor_sync(std::uint32_t mask, T value, int bits, int width = 32, simt::place at = simt::place::current()) {
  return simt::detail::shuffled(mask, value, simt::shuffle_xor, bits, width, at);
}

inline unsigned __ballot_sync(std::uint32_t mask, int yes, simt::place at = simt::place::current()) {
  return simt::detail::voted(mask, yes != 0, at);
}
inline int __any_sync(std::uint32_t mask, int yes, simt::place at = simt::place::current()) {
  return simt::detail::voted(mask, yes != 0, at) != 0 ? 1 : 0;
}
inline int __all_sync(std::uint32_t mask, int yes, simt::place at = simt::place::current()) {
  return simt::detail::voted(mask, yes != 0, at) == mask ? 1 : 0;
}

inline int __popc(unsigned x) { return std::popcount(x); }
inline int __ffs(int x) { return x == 0 ? 0 : std::countr_zero(static_cast<unsigned>(x)) + 1; }

// Each returns what was there before. Relaxed: an atomic orders no other memory.
template <class T>
T atomicAdd(T* at, std::type_identity_t<T> x) {
  return std::atomic_ref<T>(*at).fetch_add(x, std::memory_order_relaxed);
}
template <class T>
T atomicExch(T* at, std::type_identity_t<T> x) {
  return std::atomic_ref<T>(*at).exchange(x, std::memory_order_relaxed);
}
template <class T>
T atomicCAS(T* at, std::type_identity_t<T> expected, std::type_identity_t<T> x) {
  std::atomic_ref<T>(*at).compare_exchange_strong(expected, x, std::memory_order_relaxed);
  return expected;
}
template <class T>
T atomicMax(T* at, std::type_identity_t<T> x) {
  std::atomic_ref<T> target(*at);
  T old = target.load(std::memory_order_relaxed);
  while (old < x && !target.compare_exchange_weak(old, x, std::memory_order_relaxed)) {
  }
  return old;
}
template <class T>
T atomicOr(T* at, std::type_identity_t<T> x) {
  return std::atomic_ref<T>(*at).fetch_or(x, std::memory_order_relaxed);
}
