// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// The Device role: the few calls through which everything reaches a GPU. Satisfied by cuda_api (the CUDA runtime and
/// cuBLAS) and, in the tests, by a double that runs kernels on the CPU, writes down each call and fails on demand.
///
/// Contract: work on one stream runs in the order in which it was asked for; no call waits for the device but the two
/// that say so and those that make or free page-locked memory; a call that cannot be made throws device_error and has
/// done nothing.
#pragma once

#include "dpopt/core/error.hpp"
#include "dpopt/core/types.hpp"
#include "dpopt/cuda/device_error.hpp"

#include <concepts>
#include <cstddef>
#include <exception>
#include <type_traits>

namespace dpopt::cuda {

/// Role of what satisfies DeviceApi, beside the core's roles.
struct device_role {};

enum class copy_direction { to_device, to_host, on_device };

/// Memory in the order of a stream, in the shape of rmm's resources: what is given back on a stream may be handed out
/// again to work that is later on the same stream. `Stream` is a handle such as cudaStream_t.
template <class R, class Stream>
concept MemoryResource = requires(R r, void* p, std::size_t bytes, Stream stream) {
  { r.allocate(bytes, stream) } -> std::same_as<void*>; // 256-byte aligned; throws on failure
  r.deallocate(p, bytes, stream);
};

/// Memory of the resource for `call`. @throw device_error with the line that asked for it and what the resource says,
/// whatever it throws: rmm's errors name no call.
template <class Stream, MemoryResource<Stream> R>
[[nodiscard]] void* allocate_from(R& resource, std::size_t bytes, Stream stream, call_site call) {
  try {
    return resource.allocate(bytes, stream);
  } catch (const std::exception& e) {
    throw device_error(
        message(call.name, " (", call.file(), ":", call.where.line(), "), ", bytes, " bytes: ", e.what()));
  }
}

template <class D>
concept DeviceApi =
    std::copyable<D> && std::is_trivially_copyable_v<typename D::stream_type> && std::movable<typename D::event> &&
    requires(D d, const D k, typename D::stream_type s, call_site c, typename D::event& e, void* to, const void* from,
             std::size_t bytes, copy_direction where) {
      { k.stream() } -> std::same_as<typename D::stream_type>; // the one that the optimizer works on
      { d.allocate(bytes, s, c) } -> std::same_as<void*>;
      d.deallocate(to, bytes, s);                             // never throws
      { d.allocate_pinned(bytes, c) } -> std::same_as<void*>; // host memory that copies overlap with
      d.deallocate_pinned(to);                                // never throws; after the copies from and to it
      d.copy(to, from, bytes, where, s, c);                   // host memory is pinned, or d waits
      d.zero(to, bytes, s, c);
      { d.make_event(c) } -> std::same_as<typename D::event>;
      d.record(e, s, c);
      d.wait(s, e, c);     // work that follows on s comes after the event
      d.wait(e, c);        // WAITS on the host
      d.synchronize(s, c); // WAITS on the host
    };

/// c += a^T b with a [k x m], b [k x n] and c [m x n], all row-major and dense: the plain gradient product of a linear
/// layer. V is float or double; never in a narrower arithmetic than V's.
template <class D, class V>
concept MultipliesOn =
    DeviceApi<D> && requires(D d, typename D::stream_type s, call_site c, isize m, isize n, isize k, const V* a,
                             const V* b, V* out) { d.add_transposed_product(m, n, k, a, b, out, s, c); };

} // namespace dpopt::cuda
