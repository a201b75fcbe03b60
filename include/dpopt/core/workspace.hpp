// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Scratch memory of a step: grows while the first steps run, then never again.
#pragma once

#include "dpopt/core/types.hpp"

#include <algorithm>
#include <cstddef>
#include <limits>
#include <memory>
#include <new>
#include <span>
#include <vector>

namespace dpopt {

/// Hands out uninitialised arrays that stay valid until the scope they were taken in is released, last taken first.
/// They lie one behind the other in one block; what does not fit gets memory of its own, and when everything was given
/// back the block grows to the most that was in use at a time. So a step that asks for what the last one asked for
/// allocates nothing.
class workspace {
public:
  workspace() = default;

  explicit workspace(std::span<std::byte> memory) { use(memory); }

  /// From now on the block is `memory`, which never grows: what does not fit comes from the heap, each time, and then
  /// bytes() is more than memory.size(). It must outlive this object or the next use() and serve nothing else. Only
  /// while nothing is taken. Empty: a block of its own again.
  void use(std::span<std::byte> memory) noexcept {
    own_.reset();
    block_ = {};
    given_ = !memory.empty();
    void* at = memory.data();
    std::size_t left = memory.size();
    if (given_ && std::align(alignment, 1, at, left) != nullptr)
      block_ = {static_cast<std::byte*>(at), left / alignment * alignment};
  }

  /// The most bytes that were in use at a time so far; the memory that suffices for the same steps, wherever it starts.
  /// Grows in the first steps and then no more.
  [[nodiscard]] isize bytes() const noexcept {
    return peak_ == 0 ? 0
                      : static_cast<isize>(peak_ + (alignment - 1)); // the rest of a line at the start of the memory
  }

  /// Takes room for n values of the trivial type U. @complexity O(1) after warm-up.
  /// @throw std::bad_alloc when there is no memory, or n is negative or beyond any; nothing is taken then.
  template <class U>
  [[nodiscard]] U* take(isize n) {
    static_assert(alignof(U) <= alignment);
    constexpr isize most = (std::numeric_limits<isize>::max() - alignment) / sizeof(U);
    if (n < 0 || n > most) throw std::bad_alloc(); // a size that overflowed would be an array that is too short
    const auto bytes = (static_cast<std::size_t>(n) * sizeof(U) + alignment - 1) / alignment * alignment;
    std::byte* at = nullptr;
    if (live_ == 0 && bytes > block_.size()) grow(bytes); // instead of a second block beside it
    if (bytes <= block_.size() - used_) {
      at = block_.data() + used_;
      used_ += bytes;
    } else {
      beyond_.push_back(allocate(bytes));
      at = beyond_.back().get();
    }
    live_ += bytes;
    peak_ = std::max(peak_, live_);
    return reinterpret_cast<U*>(at);
  }

  /// Gives back on destruction whatever was taken since construction.
  class scope {
  public:
    explicit scope(workspace& w) noexcept : workspace_(w), used_(w.used_), live_(w.live_), beyond_(w.beyond_.size()) {}
    scope(const scope&) = delete;
    scope& operator=(const scope&) = delete;
    ~scope() {
      workspace_.used_ = used_;
      workspace_.live_ = live_;
      while (workspace_.beyond_.size() > beyond_) workspace_.beyond_.pop_back();
      if (live_ == 0 && workspace_.peak_ > workspace_.block_.size())
        workspace_.grow(workspace_.peak_); // also for inner scopes' needs
    }

  private:
    workspace& workspace_;
    std::size_t used_;
    std::size_t live_;
    std::size_t beyond_;
  };

private:
  static constexpr std::size_t alignment = 64; // a cache line, and the widest vector register
  struct aligned_delete {
    void operator()(std::byte* p) const noexcept { ::operator delete[](p, std::align_val_t{alignment}); }
  };
  using piece = std::unique_ptr<std::byte[], aligned_delete>;

  [[nodiscard]] static piece allocate(std::size_t bytes) {
    return piece(new (std::align_val_t{alignment}) std::byte[bytes]);
  }

  /// While nothing is in use. The old block goes first, so that the two never count together.
  void grow(std::size_t bytes) noexcept {
    if (given_) return;
    block_ = {};
    own_.reset();
    try {
      own_ = allocate(bytes);
      block_ = {own_.get(), bytes};
    } catch (const std::bad_alloc&) { // whoever takes something next is told
    }
  }

  std::span<std::byte> block_;
  std::size_t used_ = 0; // bytes of the block
  std::size_t live_ = 0; // bytes in use, wherever they are
  std::size_t peak_ = 0;
  bool given_ = false;
  piece own_;                 // the block, unless it was given
  std::vector<piece> beyond_; // what did not fit
};

} // namespace dpopt
