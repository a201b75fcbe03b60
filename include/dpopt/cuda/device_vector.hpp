// SPDX-FileCopyrightText: The dpopt authors
// SPDX-License-Identifier: Apache-2.0
/// @file
/// Arrays that own device memory, or host memory that the device copies to: given back in the order of their stream.
#pragma once

#include "dpopt/core/error.hpp"
#include "dpopt/core/types.hpp"
#include "dpopt/cuda/device_api.hpp"

#include <limits>
#include <optional>
#include <span>
#include <type_traits>
#include <utility>

namespace dpopt::cuda {

/// n numbers on the device. Allocated and given back on the stream of the device it was made with: work on other
/// streams that uses it must have been ordered before.
template <class T, DeviceApi D>
class device_vector {
  static_assert(std::is_trivially_copyable_v<T>);

public:
  device_vector() = default;

  /// Not initialised. @throw device_error, or invalid_argument for a size beyond any memory.
  device_vector(D device, isize n, call_site call = "allocate") : device_(std::move(device)), size_(n) {
    if (n < 0 || n > std::numeric_limits<isize>::max() / static_cast<isize>(sizeof(T)))
      throw invalid_argument(message("device_vector: ", n, " elements; give 0 or more that memory can hold"));
    if (n > 0) data_ = static_cast<T*>(device_->allocate(bytes(), device_->stream(), call));
  }
  device_vector(device_vector&& other) noexcept
      : device_(other.device_), data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  device_vector& operator=(device_vector&& other) noexcept {
    device_vector(std::move(other)).swap(*this);
    return *this;
  }
  ~device_vector() {
    if (data_) device_->deallocate(data_, bytes(), device_->stream());
  }

  /// At least n elements, whatever was in them; allocates only to grow, then by half more than before.
  void reserve(const D& device, isize n, call_site call = "allocate") {
    if (n <= size_) return;
    *this = device_vector(device, n > size_ + size_ / 2 ? n : size_ + size_ / 2, call);
  }

  [[nodiscard]] T* data() noexcept { return data_; }
  [[nodiscard]] const T* data() const noexcept { return data_; }
  [[nodiscard]] isize size() const noexcept { return size_; }

private:
  [[nodiscard]] std::size_t bytes() const noexcept { return static_cast<std::size_t>(size_) * sizeof(T); }
  void swap(device_vector& other) noexcept {
    std::swap(device_, other.device_);
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
  }

  std::optional<D> device_;
  T* data_ = nullptr;
  isize size_ = 0;
};

/// n numbers of page-locked host memory. The owner sees to it that no copy is under way when it is written or freed.
template <class T, DeviceApi D>
class pinned_vector {
  static_assert(std::is_trivially_copyable_v<T>);

public:
  pinned_vector() = default;
  pinned_vector(D device, isize n, call_site call = "allocate_pinned") : device_(std::move(device)), size_(n) {
    if (n > 0) data_ = static_cast<T*>(device_->allocate_pinned(static_cast<std::size_t>(n) * sizeof(T), call));
  }
  pinned_vector(pinned_vector&& other) noexcept
      : device_(other.device_), data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  pinned_vector& operator=(pinned_vector&& other) noexcept {
    std::swap(device_, other.device_);
    std::swap(data_, other.data_);
    std::swap(size_, other.size_);
    return *this;
  }
  ~pinned_vector() {
    if (data_) device_->deallocate_pinned(data_);
  }

  /// As device_vector's.
  void reserve(const D& device, isize n, call_site call = "allocate_pinned") {
    if (n <= size_) return;
    *this = pinned_vector(device, n > size_ + size_ / 2 ? n : size_ + size_ / 2, call);
  }

  [[nodiscard]] T* data() noexcept { return data_; }
  [[nodiscard]] isize size() const noexcept { return size_; }
  [[nodiscard]] std::span<T> numbers() noexcept { return {data_, static_cast<std::size_t>(size_)}; }

private:
  std::optional<D> device_;
  T* data_ = nullptr;
  isize size_ = 0;
};

} // namespace dpopt::cuda
