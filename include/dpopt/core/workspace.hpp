// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Scratch memory of a step: grows while the first steps run, then never again.
#pragma once

#include "dpopt/core/types.hpp"

#include <cstddef>
#include <memory>
#include <new>
#include <span>
#include <vector>

namespace dpopt {

/// Hands out uninitialised arrays that stay valid until the scope they were taken in is released.
/// Chunks are reused by position, so a step that asks for the same sizes as the last one allocates nothing.
class workspace {
public:
  workspace() = default;

  /// Takes from `memory` what fits there, and only the rest from the heap. What bytes() says after the first steps is
  /// enough for the same steps. The memory must outlive this object and serve nothing else.
  explicit workspace(std::span<std::byte> memory) : lent_(memory) { chunks_.reserve(16); }

  /// Bytes in use at the most so far, wherever they are; grows in the first steps and then no more.
  [[nodiscard]] isize bytes() const noexcept {
    std::size_t total = 0;
    for (const chunk& c : chunks_) total += c.bytes;
    return static_cast<isize>(total) + (chunks_.empty() ? 0 : static_cast<isize>(alignment));
  }

  /// Takes room for n values of the trivial type U. @complexity O(1) after warm-up.
  template <class U>
  [[nodiscard]] U* take(isize n) {
    static_assert(alignof(U) <= alignment);
    const auto bytes = (static_cast<std::size_t>(n) * sizeof(U) + alignment - 1) / alignment * alignment;
    if (used_ == chunks_.size()) chunks_.emplace_back();
    chunk& c = chunks_[used_];
    if (c.bytes < bytes) {
      c.lent = carve(bytes);
      c.memory.reset(c.lent != nullptr ? nullptr : new (std::align_val_t{alignment}) std::byte[bytes]);
      c.bytes = bytes;
    }
    ++used_;
    return reinterpret_cast<U*>(c.lent != nullptr ? c.lent : c.memory.get());
  }

  /// Gives back on destruction whatever was taken since construction.
  class scope {
  public:
    explicit scope(workspace& w) noexcept : workspace_(w), mark_(w.used_) {}
    scope(const scope&) = delete;
    scope& operator=(const scope&) = delete;
    ~scope() { workspace_.used_ = mark_; }

  private:
    workspace& workspace_;
    std::size_t mark_;
  };

private:
  static constexpr std::size_t alignment = 64; // a cache line, and the widest vector register
  struct aligned_delete {
    void operator()(std::byte* p) const noexcept { ::operator delete[](p, std::align_val_t{alignment}); }
  };
  struct chunk {
    std::unique_ptr<std::byte[], aligned_delete> memory;
    std::byte* lent = nullptr; // instead of memory
    std::size_t bytes = 0;
  };

  /// The next aligned `bytes` of what was lent; null when they do not fit.
  [[nodiscard]] std::byte* carve(std::size_t bytes) noexcept {
    void* at = lent_.data();
    std::size_t left = lent_.size();
    if (at == nullptr || std::align(alignment, bytes, at, left) == nullptr) return nullptr;
    auto* const found = static_cast<std::byte*>(at);
    lent_ = {found + bytes, left - bytes};
    return found;
  }

  std::vector<chunk> chunks_;
  std::span<std::byte> lent_; // what is left of it
  std::size_t used_ = 0;
};

} // namespace dpopt
