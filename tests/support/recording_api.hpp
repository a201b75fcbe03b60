// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// A device made of host memory, whose kernels run at once on the CPU executor. It writes down every call with its
/// stream, fails the call that a test chooses, and checks what a real device would not forgive: memory that was freed
/// or is not its own, sizes that differ between allocation and release, pageable memory in an asynchronous copy.
///
/// Under nvcc each call is made on a real device too, in memory that the host sees, and waited for.
#pragma once

#include "support/simt/simt.hpp"
#if defined(__CUDACC__)
#include "support/simt/gpu_device.hpp"
#else
#include "support/simt/cpu_device.hpp"
#endif

#include "dpopt/core/types.hpp"
#include "dpopt/cuda/device_api.hpp"
#include "dpopt/cuda/dialect.cuh"

#include <algorithm>
#include <cstddef>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <stdexcept>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

namespace dpopt::testing {

/// One call as a test sees it. `what` is the kind of the call, `name` what the library called it.
struct recorded_call {
  enum class kind {
    allocate,
    release,
    allocate_pinned,
    release_pinned,
    copy,
    zero,
    record,
    wait,
    host_wait,
    synchronize,
    launch,
    product,
    all_reduce,
    abandon
  };
  kind what;
  std::string name;
  int stream;
};

/// DeviceApi and MultipliesOn. Copies share everything. Host threads may have one each (ranks), and share the executor.
class recording_api {
public:
  using role = cuda::device_role;
  using stream_type = int;
  using kind = recorded_call::kind;

  /// Counts as recorded by the stream it was last recorded on.
  class event {
    friend class recording_api;
    std::size_t at = 0; // calls made before it was recorded
    simt::device::event work;
  };

  explicit recording_api(int stream = 1) : stream_(stream), state_(std::make_shared<state>()) {}

  [[nodiscard]] int stream() const noexcept { return stream_; }

  [[nodiscard]] void* allocate(std::size_t bytes, int s, cuda::call_site call) {
    enter(kind::allocate, call, s);
    const auto turn = one_at_a_time();
    return state_->device.add(simt::device::allocate(bytes), bytes);
  }
  void deallocate(void* p, std::size_t bytes, int s) noexcept {
    note(kind::release, "release", s);
    state_->device.remove(p, bytes);
    const auto turn = one_at_a_time();
    simt::device::deallocate(p);
  }
  [[nodiscard]] void* allocate_pinned(std::size_t bytes, cuda::call_site call) {
    enter(kind::allocate_pinned, call, stream_);
    const auto turn = one_at_a_time();
    return state_->pinned.add(simt::device::allocate_pinned(bytes), bytes);
  }
  void deallocate_pinned(void* p) noexcept {
    note(kind::release_pinned, "release_pinned", stream_);
    state_->pinned.remove(p);
    const auto turn = one_at_a_time();
    simt::device::deallocate_pinned(p);
  }
  void copy(void* to, const void* from, std::size_t bytes, cuda::copy_direction where, int s, cuda::call_site call) {
    enter(kind::copy, call, s);
    if (where == cuda::copy_direction::to_host) state_->pinned.require(to, bytes);
    if (where == cuda::copy_direction::to_device) state_->pinned.require(from, bytes);
    const auto turn = one_at_a_time();
    simt::device::copy(to, from, bytes, where);
  }
  void zero(void* p, std::size_t bytes, int s, cuda::call_site call) {
    enter(kind::zero, call, s);
    if (std::ranges::find(state_->lent, std::pair(p, bytes)) == state_->lent.end()) state_->device.require(p, bytes);
    work([=] { simt::device::zero(p, bytes); });
  }
  [[nodiscard]] event make_event(cuda::call_site) {
    const auto turn = one_at_a_time();
    event e;
    e.work = simt::device::make_event();
    return e;
  }
  void record(event& e, int s, cuda::call_site call) {
    enter(kind::record, call, s);
    e.at = state_->calls.size();
    const auto turn = one_at_a_time();
    simt::device::record(e.work);
  }
  void wait(int s, event& e, cuda::call_site call) {
    enter(kind::wait, call, s);
    if (e.at == 0) throw std::logic_error("a stream waits for an event that was never recorded");
    const auto turn = one_at_a_time();
    simt::device::wait(e.work);
  }
  void wait(event& e, cuda::call_site call) {
    enter(kind::host_wait, call, stream_);
    if (e.at == 0) throw std::logic_error("the host waits for an event that was never recorded");
    const auto turn = one_at_a_time();
    simt::device::wait_on_host(e.work);
  }
  void synchronize(int s, cuda::call_site call) {
    enter(kind::synchronize, call, s);
    const auto turn = one_at_a_time();
    simt::device::synchronize();
  }

  template <class... P>
  void launch(int s, cuda::call_site call, cuda::launch_shape shape, void (*kernel)(P...),
              std::type_identity_t<P>... args) {
    if (shape.blocks == 0) return;
    enter(kind::launch, call, s);
    work([=] { simt::device::launch(shape, kernel, args...); });
  }

  template <class V>
  void add_transposed_product(isize m, isize n, isize k, const V* a, const V* b, V* out, int s, cuda::call_site call) {
    enter(kind::product, call, s);
    const auto turn = one_at_a_time();
    simt::device::add_transposed_product(m, n, k, a, b, out);
  }

  /// For communicators of tests: a sum over ranks was put on a stream.
  void all_reduce(int s, cuda::call_site call) { enter(kind::all_reduce, call, s); }

  /// For communicators of tests: sums that others never join were given up. Never fails.
  void abandon(int s) noexcept { note(kind::abandon, "abandon", s); }

  // ---- for tests ----

  /// Everything since the start or forget_calls().
  [[nodiscard]] const std::vector<recorded_call>& calls() const { return state_->calls; }
  void forget_calls() { state_->calls.clear(); }
  [[nodiscard]] isize count(kind what) const { return std::ranges::count(state_->calls, what, &recorded_call::what); }
  [[nodiscard]] isize count(std::string_view name) const {
    return std::ranges::count(state_->calls, name, &recorded_call::name);
  }
  /// The next call of that name fails; the others go on.
  void fail_next(std::string name) { state_->fail_name = std::move(name); }
  /// The k-th call from now fails, whatever it is; 0 is the next, -1 none.
  void fail_after(isize k) { state_->fail_after = k; }
  /// From now on work is kept for replay(), or no longer; what was kept before stays when `keep` is false.
  void capture(bool keep) {
    state_->keeps = keep;
    if (keep) state_->kept.clear();
  }
  /// Does the kept kernels and zeroes once more, as a graph that is launched again. @return how many.
  std::size_t replay() {
    state_->keeps = false;
    for (const auto& again : state_->kept) {
      const auto turn = one_at_a_time();
      again();
    }
    return state_->kept.size();
  }
  /// Memory of the trainer's, as a whole.
  void lend(void* p, std::size_t bytes) { state_->lent.emplace_back(p, bytes); }
  [[nodiscard]] std::size_t live_allocations() const { return state_->device.size() + state_->pinned.size(); }

private:
  /// Allocated ranges, filled with bytes that make NaN, and with nothing behind them that is theirs.
  class heap {
  public:
    void* add(void* p, std::size_t bytes) {
      std::memset(p, 0xFF, bytes);
      blocks_[p] = bytes;
      return p;
    }
    void remove(void* p, std::size_t bytes) {
      if (const auto at = blocks_.find(p); at == blocks_.end() || at->second != bytes) std::abort();
      remove(p);
    }
    void remove(void* p) {
      if (blocks_.erase(p) != 1) std::abort();
    }
    void require(const void* p, std::size_t bytes) const {
      auto at = blocks_.upper_bound(const_cast<void*>(p)); // NOLINT: a key to look up
      if (bytes == 0) return;
      if (at == blocks_.begin()) throw std::logic_error("memory that this device did not allocate");
      --at;
      const auto* first = static_cast<const std::byte*>(at->first);
      if (static_cast<const std::byte*>(p) + bytes > first + at->second)
        throw std::logic_error("memory that this device did not allocate, or too little of it");
    }
    [[nodiscard]] std::size_t size() const { return blocks_.size(); }
    [[nodiscard]] const auto& blocks() const { return blocks_; }

  private:
    std::map<void*, std::size_t, std::less<>> blocks_;
  };

  struct state {
    heap device, pinned;
    std::vector<std::pair<void*, std::size_t>> lent;
    std::vector<recorded_call> calls;
    std::string fail_name;
    isize fail_after = -1;
    std::vector<std::function<void()>> kept;
    bool keeps = false;

    ~state() { // what a test that failed has left
      for (const auto& [p, bytes] : device.blocks()) simt::device::deallocate(p);
      for (const auto& [p, bytes] : pinned.blocks()) simt::device::deallocate_pinned(p);
    }
  };

  /// Ranks are threads of the host; the executor and the device's stream are one for all.
  [[nodiscard]] static std::unique_lock<std::mutex> one_at_a_time() {
    static std::mutex mutex;
    return std::unique_lock(mutex);
  }
  template <class F>
  void work(F f) {
    {
      const auto turn = one_at_a_time();
      f();
    }
    if (state_->keeps) state_->kept.emplace_back(f);
  }
  void note(kind what, const char* name, int s) { state_->calls.push_back({what, name, s}); }
  void enter(kind what, cuda::call_site call, int s) {
    const bool chosen = state_->fail_name == call.name && !state_->fail_name.empty();
    if (chosen) state_->fail_name.clear();
    const bool counted = state_->fail_after == 0;
    if (state_->fail_after >= 0) --state_->fail_after;
    if (chosen || counted) cuda::throw_device_error(call, static_cast<std::uintptr_t>(s), "told to fail", 1);
    note(what, call.name, s);
  }

  int stream_;
  std::shared_ptr<state> state_;
};

static_assert(cuda::DeviceApi<recording_api> && cuda::MultipliesOn<recording_api, float>);

} // namespace dpopt::testing
