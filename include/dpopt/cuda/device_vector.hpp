// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Arrays that own device memory, or host memory that the device copies to: given back in the order of their stream.
#pragma once

#include "dpopt/core/error.hpp"
#include "dpopt/core/types.hpp"
#include "dpopt/cuda/device_api.hpp"

#include <concepts>
#include <cstddef>
#include <limits>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>

namespace dpopt::cuda {

/// Where an array's memory comes from.
struct device_memory {
  static constexpr const char* name = "allocate"; // as errors name it
  template <class D>
  static void* allocate(D& device, std::size_t bytes, call_site call) {
    return device.allocate(bytes, device.stream(), call);
  }
  template <class D>
  static void deallocate(D& device, void* memory, std::size_t bytes) noexcept {
    device.deallocate(memory, bytes, device.stream());
  }
};
struct pinned_memory {
  static constexpr const char* name = "allocate_pinned";
  template <class D>
  static void* allocate(D& device, std::size_t bytes, call_site call) {
    return device.allocate_pinned(bytes, call);
  }
  template <class D>
  static void deallocate(D& device, void* memory, std::size_t /*bytes*/) noexcept {
    device.deallocate_pinned(memory);
  }
};

/// Owns n numbers of a kind of memory, not initialised.
template <class T, DeviceApi D, class Memory>
class owned_array {
  static_assert(std::is_trivially_copyable_v<T>);

public:
  owned_array() = default;

  /// @throw device_error, or invalid_argument for a size beyond any memory.
  owned_array(D device, isize n, call_site call = Memory::name) : device_(std::move(device)), size_(n) {
    if (n < 0 || n > std::numeric_limits<isize>::max() / static_cast<isize>(sizeof(T)))
      throw invalid_argument(message("device_vector: ", n, " elements; give 0 or more that memory can hold"));
    if (n > 0) data_ = static_cast<T*>(Memory::allocate(*device_, bytes(), call));
  }
  owned_array(owned_array&& other) noexcept
      : device_(other.device_), data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  owned_array& operator=(owned_array&& other) noexcept {
    owned_array(std::move(other)).swap(*this);
    return *this;
  }
  ~owned_array() {
    if (data_) Memory::deallocate(*device_, data_, bytes());
  }

  /// At least n elements, whatever was in them; allocates only to grow, then by half more than before.
  void reserve(const D& device, isize n, call_site call = Memory::name) {
    if (n <= size_) return;
    *this = owned_array(device, n > size_ + size_ / 2 ? n : size_ + size_ / 2, call);
  }

  [[nodiscard]] T* data() noexcept { return data_; }
  [[nodiscard]] const T* data() const noexcept { return data_; }
  [[nodiscard]] isize size() const noexcept { return size_; }
  /// For the host, which reads and writes page-locked memory only.
  [[nodiscard]] std::span<T> numbers() noexcept
    requires std::same_as<Memory, pinned_memory>
  {
    return {data_, static_cast<std::size_t>(size_)};
  }

private:
  [[nodiscard]] std::size_t bytes() const noexcept { return static_cast<std::size_t>(size_) * sizeof(T); }
  void swap(owned_array& other) noexcept {
    std::swap(device_, other.device_);
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
  }

  std::optional<D> device_;
  T* data_ = nullptr;
  isize size_ = 0;
};

/// n numbers on the device. Allocated and given back on the stream of the device it was made with: work on other
/// streams that uses it must have been ordered before.
template <class T, class D>
using device_vector = owned_array<T, D, device_memory>;

/// n numbers of page-locked host memory. The owner sees to it that no copy is under way when it is written or freed.
template <class T, class D>
using pinned_vector = owned_array<T, D, pinned_memory>;

} // namespace dpopt::cuda
